"""What the commands of `optimum-cli neuron` have in common: flags from options, and a process that does the work."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..options import Option
from .frame import run_main
from .parser import add_options, one_line_errors


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        prog: As the user types it.
        usage: What follows it, in the help.
        summary: What it does, in a sentence, for the list of commands.
        details: More of that, for its own help.
        options: Its flags, in the order of the help; of one model or several.
        optional: See `parser.add_options`.
        work: Is given what the user gave, by option; returns the exit status where it is not always 0. What it needs
            of torch, the SDK or Ray it imports by itself: help and refused flags do without.
    """

    prog: str
    usage: str
    summary: str
    details: str = ""
    options: tuple[Option, ...]
    optional: Mapping[str, str] = field(default_factory=dict)
    work: Callable[[dict[str, Any]], int | None]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the flags, and have errors of one line."""
        parser.description = f"{self.summary} {self.details}"
        parser.usage = f"{self.prog} {self.usage}"
        one_line_errors(parser, self.prog)
        add_options(parser, self.options, optional=self.optional)

    def read(self, argv: Sequence[str]) -> dict[str, Any]:
        """What the arguments give, by option; SystemExit where they cannot be read (2) or ask for help (0)."""
        parser = ArgumentParser(prog=self.prog)
        self.add_arguments(parser)
        return vars(parser.parse_args(argv))

    def main(self, argv: Sequence[str]) -> int:
        """Do the work and return its status; an error of the user's is one line on stderr. SystemExit as `read`."""
        return run_main(self.prog, lambda: self.work(self.read(argv)))
