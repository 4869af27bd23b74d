"""`from_pretrained(export=True)`: compile a checkpoint, load what was made, and see to the folder it is in."""

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifact.checks import machine_problem
from ..checkpoint.layout import Kind
from ..errors import DeviceError, InvalidExportOption, PixArtNeuronError, ValidationFailed
from ..hardware import get_instance
from ..neuron.machine import Machine
from ..neuron.sdk import NeuronSdk, ensure_sdk, sdk_for

if TYPE_CHECKING:
    from ..export.options import ExportOptions

logger = logging.getLogger(__name__)


def compile_and_load(model_id: str | Path, given: Mapping[str, Any], load: Callable[[Path], Any], kind: Kind) -> Any:
    """Export a checkpoint and load the result.

    Without `output` the artifacts lie in a temporary folder that lives as long as the pipeline in the process that
    made it. Where they cannot be loaded they are kept, and named.

    Args:
        given: options of the export, by name.
        load: the folder -> the pipeline.
        kind: of pipeline that the checkpoint has to be.

    Raises:
        InvalidExportOption: an option is unknown or has a value that it cannot have.
        PixArtNeuronError: the export's own, as `export` raises them; or what was compiled cannot be loaded.
    """
    # Imported late: who loads what is compiled needs no exporter.
    from ..export.exporter import export
    from ..export.options import ExportOptions

    own_folder = given.get("output") is not None
    options = ExportOptions(model=model_id, **{"output": "pipeline", **given})
    sdk = sdk_for(options.instance_type) if options.instance_type else ensure_sdk()
    _check_instance(options, sdk)
    temporary = None
    if not own_folder:
        temporary = Path(tempfile.mkdtemp(prefix="pixart-neuron-"))
        options = options.changed(output=temporary / "pipeline")
    try:
        folder = export(options, kind=kind)
    except BaseException as error:
        if temporary and not isinstance(error, ValidationFailed):  # which keeps what was compiled, and names it
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    pipeline = _load(folder, load, sdk)
    if temporary:
        weakref.finalize(pipeline, _remove, temporary, os.getpid())
    return pipeline


def _check_instance(options: "ExportOptions", sdk: NeuronSdk) -> None:
    """Refuse to compile for another kind of machine: it would be hours before the loading fails.

    Where there is no NeuronCore at all, compiling is what can be done, and the folder is then named.
    """
    if options.instance_type is None or not sdk.has_device:
        return
    machine = Machine.of(sdk)
    if get_instance(options.instance_type).platform_target != machine.instance.platform_target:
        raise InvalidExportOption(
            f"--instance_type {options.instance_type}: from_pretrained loads what it compiles, and this machine is"
            f" {machine.name}; compile it with `optimum-cli export neuron`, and load it there"
        )


def _load(folder: Path, load: Callable[[Path], Any], sdk: NeuronSdk) -> Any:
    try:
        problem = machine_problem(folder, sdk)
        if problem:
            raise DeviceError(problem)
        return load(folder)
    except PixArtNeuronError as error:
        raise type(error)(f"compiled into {folder}, but {error}") from None
    except BaseException:
        logger.warning("what was compiled is kept in %s", folder)
        raise


def _remove(folder: Path, made_by: int) -> None:
    """A forked process must not take the artifacts from the one that made them."""
    if os.getpid() == made_by:
        shutil.rmtree(folder, ignore_errors=True)
