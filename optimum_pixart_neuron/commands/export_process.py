"""The process of `optimum-cli export neuron`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..export.options import ExportOptions
from ..hardware import get_instance
from ..neuron.sdk import ensure_sdk
from .arguments import PROG, parse
from .main import run_main


def main(argv: Sequence[str]) -> int:
    """Export one pipeline and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli export neuron`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _export(argv))


def _export(argv: Sequence[str]) -> None:
    options = ExportOptions.from_args(parse(argv))
    _prepare_sdk(options.instance_type)
    # Here and not above: it imports torch and the SDK, which the help and refused flags do not need.
    from ..export.exporter import export

    export(options)


def _prepare_sdk(instance_type: str | None) -> None:
    """Have the SDK, or the emulator in its place, ready for the chosen instance.

    Raises:
        InvalidExportOption: The emulator was told to be an instance that it does not know.
    """
    sdk = ensure_sdk(instance_type)
    instance = instance_type or (sdk.instance if sdk.emulated else None)
    if instance is not None:
        # The SDK reads this when it is imported. What is inherited may be the trn1 that optimum-neuron puts there in
        # the parent process on every machine without a device.
        os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = get_instance(instance).platform_target


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
