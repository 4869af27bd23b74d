"""What `optimum-cli` loads at every start: the command for exports, and the sub-commands of `optimum-cli neuron`.

What opens checkpoints is imported when it is needed: other commands start without it.

Each runs a module in a child process, so that `optimum-cli --help` imports nothing heavy, and a device is held by one
short-lived process.
"""

from __future__ import annotations

import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ..checkpoint.layout import KINDS
from ..checkpoint.options import CheckpointOptions
from ..errors import PixArtNeuronError
from ..process.entry import end_at_once
from . import (
    export_neuron,
    pixart_benchmark,
    pixart_demo,
    pixart_doctor,
    pixart_generate,
    pixart_plan,
    pixart_serve,
    pixart_validate,
)
from .command import Command
from .export_neuron import PROG
from .frame import fail, run_child
from .parser import add_options, given
from .streams import CLOSED, StreamLost

MODULE = export_neuron.__name__


class PixArtNeuronExportCommand(BaseOptimumCLICommand):
    """`optimum-cli export neuron` where the Neuron SDK is absent and the host therefore offers no such command."""

    COMMAND = CommandInfo(name="neuron", help="Export PixArt for AWS Neuron; without the SDK, for its emulator.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Add the command's flags to `parser`."""
        export_neuron.add_arguments(parser)

    def run(self) -> None:
        """Export the model and end with its status, by SystemExit; with 2 when the model is not PixArt."""
        from ..checkpoint.open import check_kind, pipeline_class

        with _one_line():
            options = CheckpointOptions(**given(vars(self.args), CheckpointOptions))
            check_kind(pipeline_class(options), options)
        _run_child(MODULE, PROG)


def extend_host_command(command_class: type[BaseOptimumCLICommand]) -> None:
    """Teach the host's command PixArt, in place; doing it again changes nothing.

    Only the help is of both. Which parser reads the arguments is decided when the command runs: ours for PixArt,
    and for every other model the host's own, which then meets no flag of ours.
    """
    hosts = vars(command_class).get(_OF_HOST) or (command_class.parse_args, command_class.run)
    setattr(command_class, _OF_HOST, hosts)
    parse_args, run = hosts

    def parse_args_beside(parser: ArgumentParser) -> None:
        """Declare the host's flags and a group of ours, for the help, and leave everything else to `run_beside`."""
        parse_args(parser)
        export_neuron.add_group(parser)
        read = parser.parse_known_args

        def parse_known_args(args: list[str], namespace: Namespace | None = None) -> tuple[Namespace, list[str]]:
            if {"-h", "--help"}.intersection(args):
                return read(args, namespace)
            return Namespace(func=parser.get_default("func")), []

        # The parser is made by the host, so its class is not ours.
        parser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]  # see above

    def run_beside(command: BaseOptimumCLICommand) -> None:
        """Our exporter for PixArt, the host's own way otherwise."""
        if _is_pixart(_argv()):
            _run_child(MODULE, PROG)
        parser = ArgumentParser(prog=PROG)
        parse_args(parser)
        command.args = parser.parse_args(_argv())
        run(command)

    command_class.parse_args = staticmethod(parse_args_beside)
    command_class.run = run_beside


_OF_HOST = "_before_pixart_neuron"


def _is_pixart(argv: list[str]) -> bool:
    from ..checkpoint.open import pipeline_class

    named = _named_model(argv)
    with _one_line():
        return named is not None and pipeline_class(CheckpointOptions(**named)) in KINDS


def _named_model(argv: list[str]) -> dict[str, Any] | None:
    """The options that say which model is meant, among flags of anybody; None where no model is named."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_options(parser, CheckpointOptions.options(), optional=dict.fromkeys(CheckpointOptions.model_fields, ""))
    try:
        named = vars(parser.parse_known_args(argv)[0])
    except ArgumentError:
        return None  # which the host's parser says in its own words
    return named if "model" in named else None


@contextmanager
def _one_line() -> Iterator[None]:
    """End the process with one line, by SystemExit, for an error of the user's."""
    try:
        yield
    except PixArtNeuronError as error:
        fail(PROG, str(error), error.exit_status)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _run_child(module: str, prog: str) -> NoReturn:
    if sys.stdout is None:  # a child would get /dev/null in its place, and nobody would know
        fail(prog, CLOSED, StreamLost.exit_status)
    end_at_once()
    raise SystemExit(run_child(module, prog, _argv()))


def _argv() -> list[str]:
    """What follows `optimum-cli export neuron`; the host's command counts the same three words."""
    return sys.argv[3:]


def _command(module: ModuleType) -> CommandInfo:
    """A command whose flags the `COMMAND` of a module declares, and whose work `python -m` of it does."""
    command: Command = module.COMMAND
    name = command.prog.rpartition(" ")[2]

    def run(self: BaseOptimumCLICommand) -> None:
        _run_child(module.__name__, command.prog)

    members = {"parse_args": staticmethod(command.add_arguments), "run": run}
    command_class = type(f"{name.title().replace('-', '')}Command", (BaseOptimumCLICommand,), members)
    return CommandInfo(name=name, help=command.summary, subcommand_class=command_class)


def extend_lookup(command_class: type[BaseOptimumCLICommand]) -> None:
    """Have `optimum-cli neuron cache lookup` know PixArt-Sigma, in place; doing it again changes nothing."""
    host = vars(command_class).get(_OF_HOST) or command_class.run

    def run(self: BaseOptimumCLICommand) -> None:
        from ..export.cache_entry import register_cache_entry

        register_cache_entry()
        host(self)

    setattr(command_class, _OF_HOST, host)
    command_class.run = run


SUBCOMMANDS = tuple(
    map(
        _command,
        (pixart_demo, pixart_plan, pixart_validate, pixart_benchmark, pixart_doctor, pixart_generate, pixart_serve),
    )
)


def add_subcommands(parent: type[BaseOptimumCLICommand]) -> None:
    """Give the host's `neuron` command ours, in place; doing it again changes nothing."""
    known = {command.name for command in parent.SUBCOMMANDS}
    parent.SUBCOMMANDS += tuple(command for command in SUBCOMMANDS if command.name not in known)
