"""The command: PixArt-Sigma goes to our exporter, every other model to the host's."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ..errors import PixArtNeuronError
from ..neuron.process import run_module
from .arguments import PROG, add_arguments
from .detection import PIXART_SIGMA, pipeline_class
from .main import fail

MODULE = "optimum_pixart_neuron.commands.export_process"


class PixArtNeuronExportCommand(BaseOptimumCLICommand):
    """`optimum-cli export neuron` where the Neuron SDK is absent and the host therefore offers no such command."""

    COMMAND = CommandInfo(name="neuron", help="Export PixArt-Sigma for AWS Neuron; without the SDK, for its emulator.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Add the command's flags to `parser`."""
        add_arguments(parser)

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
        raise SystemExit(run_module(MODULE, PROG, _argv()))


def extend_host_command(command_class: type[BaseOptimumCLICommand]) -> None:
    """Teach the host's command PixArt-Sigma, in place; doing it again changes nothing.

    Args:
        command_class: The host's class. Its `parse_args` and `run` stay in use for all other models.
    """
    if "_parse_args_of_host" in vars(command_class):
        return
    command_class._parse_args_of_host = staticmethod(command_class.parse_args)
    command_class._run_of_host = command_class.run
    command_class.parse_args = staticmethod(add_arguments)
    command_class.run = _run_beside_host


def _run_beside_host(command: BaseOptimumCLICommand) -> None:
    """`run` of the extended host command: our exporter for PixArt-Sigma, the host's own way otherwise."""
    if _identify(command.args) == PIXART_SIGMA:
        raise SystemExit(run_module(MODULE, PROG, _argv()))
    # Our parser has other defaults and demands less, so the host gets its arguments as its own parser reads them.
    parser = ArgumentParser(prog=PROG)
    command._parse_args_of_host(parser)
    command.args = parser.parse_args(_argv())
    command._run_of_host()


def _identify(args: Namespace) -> str | None:
    try:
        return pipeline_class(args)
    except PixArtNeuronError as error:
        fail(PROG, str(error), error.exit_status)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _describe(found: str | None) -> str:
    return "not a diffusers pipeline" if found is None else f"a {found}"


def _argv() -> list[str]:
    """What follows `optimum-cli export neuron`; the host's command counts the same three words."""
    return sys.argv[3:]
