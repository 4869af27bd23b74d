"""What `optimum-cli` loads at every start: the command for exports, and the sub-commands of `optimum-cli neuron`.

Each runs a module in a child process, so that `optimum-cli --help` imports nothing heavy, and a device is held by one
short-lived process.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from types import ModuleType
from typing import NoReturn

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ..checkpoint.options import CheckpointOptions
from ..errors import PixArtNeuronError
from ..process.run import run_module
from . import export_neuron, pixart_benchmark, pixart_generate, pixart_plan, pixart_serve, pixart_validate
from .detection import PIXART_SIGMA, pipeline_class
from .export_neuron import PROG
from .frame import fail
from .parser import given
from .streams import CLOSED, StreamLost

MODULE = export_neuron.__name__


class PixArtNeuronExportCommand(BaseOptimumCLICommand):
    """`optimum-cli export neuron` where the Neuron SDK is absent and the host therefore offers no such command."""

    COMMAND = CommandInfo(name="neuron", help="Export PixArt-Sigma for AWS Neuron; without the SDK, for its emulator.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Add the command's flags to `parser`."""
        export_neuron.add_arguments(parser)

    def run(self) -> None:
        """Export the model.

        Raises:
            SystemExit: Always, with the status of the export; 2 when the model is not PixArt-Sigma.
        """
        found = _identify(self.args)
        if found != PIXART_SIGMA:
            fail(
                PROG,
                f"--model {self.args.model} is {_describe(found)}; only PixArt-Sigma ({PIXART_SIGMA}) can be exported "
                "without the Neuron SDK.",
            )
        _run_child(MODULE, PROG)


def extend_host_command(command_class: type[BaseOptimumCLICommand]) -> None:
    """Teach the host's command PixArt-Sigma, in place; doing it again changes nothing.

    Args:
        command_class: The host's class. Its `parse_args` and `run` stay in use for all other models.
    """
    if "_parse_args_of_host" in vars(command_class):
        return
    command_class._parse_args_of_host = staticmethod(command_class.parse_args)
    command_class._run_of_host = command_class.run
    command_class.parse_args = staticmethod(export_neuron.add_arguments)
    command_class.run = _run_beside_host


def _run_beside_host(command: BaseOptimumCLICommand) -> None:
    """`run` of the extended host command: our exporter for PixArt-Sigma, the host's own way otherwise."""
    if _identify(command.args) == PIXART_SIGMA:
        _run_child(MODULE, PROG)
    # Our parser has other defaults and demands less, so the host gets its arguments as its own parser reads them.
    parser = ArgumentParser(prog=PROG)
    command._parse_args_of_host(parser)
    command.args = parser.parse_args(_argv())
    command._run_of_host()


def _identify(args: Namespace) -> str | None:
    try:
        return pipeline_class(CheckpointOptions(**given(args, CheckpointOptions)))
    except PixArtNeuronError as error:
        fail(PROG, str(error), error.exit_status)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _describe(found: str | None) -> str:
    return "not a diffusers pipeline" if found is None else f"a {found}"


def _run_child(module: str, prog: str) -> NoReturn:
    if sys.stdout is None:  # a child would get /dev/null in its place, and nobody would know
        fail(prog, CLOSED, StreamLost.exit_status)
    raise SystemExit(run_module(module, prog, _argv()))


def _argv() -> list[str]:
    """What follows `optimum-cli export neuron`; the host's command counts the same three words."""
    return sys.argv[3:]


def _command(module: ModuleType) -> CommandInfo:
    """A command whose flags a module declares, and whose work `python -m` of it does."""
    name = module.PROG.rpartition(" ")[2]

    def parse_args(parser: ArgumentParser) -> None:
        module.add_arguments(parser)

    def run(self: BaseOptimumCLICommand) -> None:
        _run_child(module.__name__, module.PROG)

    members = {"parse_args": staticmethod(parse_args), "run": run}
    command_class = type(f"{name.title().replace('-', '')}Command", (BaseOptimumCLICommand,), members)
    return CommandInfo(name=name, help=module.DESCRIPTION, subcommand_class=command_class)


SUBCOMMANDS = tuple(map(_command, (pixart_plan, pixart_validate, pixart_benchmark, pixart_generate, pixart_serve)))


def add_subcommands(parent: type[BaseOptimumCLICommand]) -> None:
    """Give the host's `neuron` command ours, in place; doing it again changes nothing."""
    known = {command.name for command in parent.SUBCOMMANDS}
    parent.SUBCOMMANDS += tuple(command for command in SUBCOMMANDS if command.name not in known)
