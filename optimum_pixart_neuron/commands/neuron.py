"""The sub-commands of `optimum-cli neuron` that this package adds.

Each runs a module of its own name in a child process, so that `optimum-cli --help` imports nothing heavy, and a device
is held by one short-lived process.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from types import ModuleType

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ..neuron.process import run_module
from . import benchmark_arguments, plan_arguments, validate_arguments


def _command(name: str, module: str, arguments: ModuleType) -> CommandInfo:
    """A command whose flags `arguments` declares and whose work `python -m module` does."""
    prog = f"optimum-cli neuron {name}"

    def parse_args(parser: ArgumentParser) -> None:
        arguments.add_arguments(parser)

    def run(self: BaseOptimumCLICommand) -> None:
        raise SystemExit(run_module(module, prog, sys.argv[3:]))

    members = {"parse_args": staticmethod(parse_args), "run": run}
    command_class = type(f"{name.title().replace('-', '')}Command", (BaseOptimumCLICommand,), members)
    return CommandInfo(name=name, help=arguments.DESCRIPTION, subcommand_class=command_class)


COMMANDS = (
    _command("pixart-plan", "optimum_pixart_neuron.commands.plan_process", plan_arguments),
    _command("pixart-validate", "optimum_pixart_neuron.commands.validate_process", validate_arguments),
    _command("pixart-benchmark", "optimum_pixart_neuron.commands.benchmark_process", benchmark_arguments),
)


def add_subcommands(parent: type[BaseOptimumCLICommand]) -> None:
    """Give the host's `neuron` command ours, in place; doing it again changes nothing."""
    known = {command.name for command in parent.SUBCOMMANDS}
    parent.SUBCOMMANDS += tuple(command for command in COMMANDS if command.name not in known)
