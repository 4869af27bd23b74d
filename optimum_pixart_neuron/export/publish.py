"""An export that goes on to the Hugging Face Hub: asked about before it begins, pushed at its end."""

import logging

from ..artifact.push import check_push, push
from ..errors import HubError
from ..neuron.sdk import NeuronSdk
from ..process.run import run_module, shell_status
from .options import ExportOptions

logger = logging.getLogger(__name__)

_EXAMPLE = "optimum_pixart_neuron.commands.example_child"


def check_publication(options: ExportOptions, sdk: NeuronSdk) -> None:
    """Refuse, before anything is compiled, what could not be pushed; nothing to do where no push is asked for.

    Raises:
        HubError: no token that may write there, or artifacts of the emulator that are not allowed.
    """
    if options.push_to_hub:
        check_push(
            options.push_to_hub,
            private=options.private or None,
            token=options.token,
            emulated=sdk.emulated,
            allow_emulated=options.allow_emulated,
        )


def publish(options: ExportOptions, sdk: NeuronSdk) -> None:
    """Push the finished export, if that is asked for, with a picture that it draws where this machine can run it.

    Raises:
        HubError: it cannot be pushed; says that it is kept, and how to push it later.
    """
    if not options.push_to_hub:
        return
    status = shell_status(run_module(_EXAMPLE, [str(options.output)])) if sdk.has_device else 0
    if status:
        logger.warning(f"the model card has no picture: drawing it ended with status {status}")
    logger.info(f"pushing to {options.push_to_hub}")
    try:
        address = push(
            options.output,
            options.push_to_hub,
            private=options.private or None,
            token=options.token,
            allow_emulated=options.allow_emulated,
        )
    except HubError as error:
        more = ", private=True" * options.private + ", allow_emulated=True" * options.allow_emulated
        raise HubError(
            f"{error}; the export is whole, in {options.output}: push it later with"
            f' NeuronPixArtSigmaPipeline.push_to_hub("{options.output}", "{options.push_to_hub}"{more})'
        ) from None
    logger.info(f"pushed to {address}")
