"""What an export can draw, read from its folder: nothing is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..artifact.checks import check_artifact
from ..artifact.compiled import Compiled
from ..artifact.manifest import MANIFEST_FILE, Manifest
from ..artifact.pull import is_repository, pull
from ..checkpoint.layout import SIGMA
from ..components.registry import DENOISER
from ..components.transformer.spec import GUIDANCE_SCALE, STEPS, scale_of_call
from ..errors import ArtifactError, printable
from ..files import full_digest
from ..neuron.machine import Machine
from ..neuron.sdk import ensure_sdk
from ..parallel.modes import MODES, mode_of
from ..runtime.guidance import takes_interval


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One export that pictures can be drawn with.

    Attributes:
        name: last part of the folder, or the Hub id; what users call it.
        address: absolute folder, or Hub id: what every process that draws loads.
        revision: commit of the Hub; None for a folder.
        made: the commit, or for a folder the start of the manifest's SHA-256: tells one export from another.
        sizes: (height, width) in pixels that it draws.
        batch: pictures that its programs take at a time.
        cores: logical cores that a pipeline of it holds.
        guided: whether it can compute guidance.
        takes_interval: whether it can leave guidance out of a part of the steps.
        pipeline: class that loads it.
        steps, guidance_scale: where nobody names any.
    """

    name: str
    address: str
    revision: str | None
    made: str
    sizes: tuple[tuple[int, int], ...]
    batch: int
    cores: int
    guided: bool
    takes_interval: bool = False
    pipeline: str = SIGMA.neuron_class
    steps: int = STEPS
    guidance_scale: float = GUIDANCE_SCALE


def open_export(address: str, *, revision: str | None = None) -> Exported:
    """Check a folder or a repository of the Hub, which is downloaded, and describe it.

    Raises:
        ArtifactError: it is not whole, not for this machine, or was not made by this package.
        HubError: it cannot be downloaded.
        DeviceError: a variable that the runtime cannot take.
        InvalidExportOption: the emulator does not know the instance that it is told to be.
    """
    sdk = ensure_sdk()
    expanded = str(Path(address).expanduser())
    on_hub = is_repository(expanded)
    if revision is not None and not on_hub:
        raise ArtifactError(f"{address} is a folder, which has no revision {revision}; leave out --revision")
    folder = pull(address, revision=revision) if on_hub else Path(expanded).resolve()
    # The head of a cluster may have no NeuronCore; the processes that draw check again, each for its own machine.
    manifest = check_artifact(folder, sdk) if sdk.has_device else Manifest.read(folder)
    if manifest is None:
        raise ArtifactError(f"{address} was not exported by this package, so its sizes are unknown; export it again")
    compiled = Compiled.read(folder / DENOISER.name)
    if compiled is None:
        raise ArtifactError(f"{address}: {DENOISER.name} is not compiled; export it again")
    if manifest.parallel_mode not in (None, *MODES):
        raise ArtifactError(
            f"{address} is exported in the parallel mode {printable(manifest.parallel_mode)}, which is not registered"
            " here; export it again"
        )
    sizes = compiled.sizes
    if "vae_scale_factor" not in sizes:
        raise ArtifactError(f"{address}: {DENOISER.name} does not say how large its pictures are; export it again")
    scale, cells = sizes["vae_scale_factor"], [each.sizes for each in compiled.each()]
    guided, call = manifest.guided, manifest.call
    cores = max(manifest.ranks, min(2, Machine.of(sdk).cores) if sdk.has_device else 2)  # as the pipeline takes them
    mode = mode_of(manifest.parallel_mode, manifest.ranks)
    batches = mode(ranks=manifest.ranks, guidance_groups=2 if guided else 1).batches(cores)
    return Exported(
        name=address if on_hub else folder.name,
        address=address if on_hub else str(folder),
        revision=folder.name if on_hub else None,
        made=folder.name if on_hub else full_digest(folder / MANIFEST_FILE)[:16],
        sizes=tuple(dict.fromkeys((each["height"] * scale, each["width"] * scale) for each in cells)),
        batch=sizes["batch_size"] * max(batches, 1),
        cores=cores,
        guided=guided,
        takes_interval=guided and takes_interval(compiled),
        pipeline=manifest.kind.neuron_class,
        steps=(call.steps if call else None) or STEPS,
        guidance_scale=scale_of_call(call.guidance_scale if call else None, guided=guided),
    )
