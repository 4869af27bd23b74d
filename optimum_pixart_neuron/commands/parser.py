"""From option models to argparse: the bridge, and no more. argparse reads words; the models say what they may be."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentError, ArgumentParser, _ArgumentGroup
from collections.abc import Iterable, Mapping
from typing import Any

from ..options import Option, Options
from .frame import fail


def add_options(
    parser: ArgumentParser, options: Iterable[Option], *, optional: Mapping[str, str] | None = None
) -> None:
    """Give `parser` the flags of these options, under the headings that they name.

    Args:
        options: Of one model or several.
        optional: What the help adds to options that this command does not demand although their model does, by name.
    """
    groups: dict[str, _ArgumentGroup] = {}
    for option in options:
        title = option.flag.group
        group = groups[title] = groups.get(title) or parser.add_argument_group(title)
        add_option(group, option, (optional or {}).get(option.name))


def new_to(parser: ArgumentParser, options: Iterable[Option]) -> list[Option]:
    """Those of the options whose flags the parser has not."""
    probe, new = ArgumentParser(parents=[parser], add_help=False), []
    for option in options:
        try:
            probe.add_argument(*(option.flag.switches or option.names), dest=option.name)
        except (ArgumentError, ValueError):  # a flag of that name; a positional, which the host has too
            continue
        new.append(option)
    return new


def add_option(group: _ArgumentGroup, option: Option, optional: str | None = None) -> None:
    """Give a group of a parser the flag of one option; see `add_options`."""
    flag = option.flag
    text = option.help if not optional else f"{option.help.removesuffix('.')}; {optional}."
    # What is not given stays out of the namespace: the model has the defaults.
    words: dict[str, Any] = {"help": text.replace("%", "%%"), "default": SUPPRESS}
    if flag.switches:
        exclusive = group.add_mutually_exclusive_group()
        for name, (value, meaning) in flag.switches.items():
            exclusive.add_argument(
                name, action="store_const", dest=option.name, const=value, default=SUPPRESS, help=meaning
            )
        return
    if option.is_switch:
        words |= {"action": "store_true"}
    else:
        choices = flag.choices and f"{{{','.join(map(str, flag.choices))}}}"
        words |= {"nargs": flag.nargs, "metavar": flag.metavar or choices}
        if flag.const is not None:
            words |= {"const": flag.const}
    if not option.names[0].startswith("-"):
        group.add_argument(option.name, **{**words, "metavar": flag.metavar or option.names[0]})
        return
    required = option.info.is_required() and optional is None
    group.add_argument(*option.names, dest=option.name, required=required, **words)
    if flag.hidden:
        group.add_argument(*flag.hidden, dest=option.name, **{**words, "help": SUPPRESS})


def given(words: Mapping[str, Any], model: type[Options]) -> dict[str, Any]:
    """What the user gave of a model's options."""
    return {name: value for name, value in words.items() if name in model.model_fields}


def one_line_errors(parser: ArgumentParser, prog: str) -> None:
    """Have `parser` report an error in one line, without the usage that argparse prints in front of it.

    The parser of a sub-command comes from the host, so its class is not ours.
    """
    parser.error = lambda message: fail(prog, message)  # type: ignore[method-assign]  # see above
