"""Emulated torch_neuronx.utils.utils."""

from optimum_pixart_neuron.emulator import emulated_instance
from optimum_pixart_neuron.emulator.compiler_flags import parse_flags, platform_target

SUPPORTED_TYPES = ("inf2", "trn1", "trn1n", "trn2")


def get_platform_target(compiler_args: str | list[str] | None = None) -> str:
    """Compile target: of the flags, else `NEURON_PLATFORM_TARGET_OVERRIDE`, else of the emulated instance."""
    default = platform_target() or emulated_instance().compile_target
    return parse_flags(compiler_args, default).target if compiler_args else default
