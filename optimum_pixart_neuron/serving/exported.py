"""What an export can draw, read from its folder: nothing is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field

from ..artifact.checks import check_artifact
from ..artifact.manifest import MANIFEST_FILE
from ..artifact.pull import is_repository, pull
from ..errors import ArtifactError
from ..files import full_digest, read_typed
from ..neuron.machine import Machine
from ..neuron.sdk import ensure_sdk

GUIDANCE_SCALE = 4.5
"""diffusers' default of PixArt-Sigma (0.35, `PixArtSigmaPipeline.__call__`)."""
UNGUIDED_SCALE = 1.0
"""From which on nothing is guided."""


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
    """

    name: str
    address: str
    revision: str | None
    made: str
    sizes: tuple[tuple[int, int], ...]
    batch: int
    cores: int
    guided: bool

    @property
    def guidance_scale(self) -> float:
        """What is used where a request names none."""
        return GUIDANCE_SCALE if self.guided else UNGUIDED_SCALE

    def renamed(self, name: str) -> Exported:
        """The same export under another name."""
        return replace(self, name=name)


class _Shapes(BaseModel):
    """What the transformer was compiled for: latent cells, pixels a cell, and pictures at a time."""

    static_height: int = Field(ge=1)
    static_width: int = Field(ge=1)
    static_vae_scale_factor: int = Field(ge=1)
    static_batch_size: int = Field(ge=1)


class _Transformer(BaseModel):
    neuron: _Shapes


def open_export(address: str, *, revision: str | None = None) -> Exported:
    """Check a folder or a repository of the Hub, which is downloaded, and describe it.

    Raises:
        ArtifactError: it is not whole, not for this machine, or was not made by this package.
        HubError: it cannot be downloaded.
        DeviceError: this machine has no NeuronCore.
        InvalidExportOption: the emulator does not know the instance that it is told to be.
    """
    sdk = ensure_sdk()
    machine = Machine.of(sdk)
    expanded = str(Path(address).expanduser())
    on_hub = is_repository(expanded)
    if revision is not None and not on_hub:
        raise ArtifactError(f"{address} is a folder, which has no revision {revision}; leave out --revision")
    folder = pull(address, revision=revision) if on_hub else Path(expanded).resolve()
    manifest = check_artifact(folder, sdk)
    if manifest is None:
        raise ArtifactError(f"{address} was not exported by this package, so its sizes are unknown; export it again")
    shapes = read_typed(folder / "transformer" / "config.json", _Transformer, ArtifactError).neuron
    scale = shapes.static_vae_scale_factor
    guided = not manifest.options.get("no_guidance", False)
    batch = shapes.static_batch_size
    if manifest.parallel_mode == "data":  # a copy a core, and the two halves of a guided picture go to two of them
        batch = max(batch, batch * manifest.ranks // (2 if guided else 1))
    return Exported(
        name=address if on_hub else folder.name,
        address=address if on_hub else str(folder),
        revision=folder.name if on_hub else None,
        made=folder.name if on_hub else full_digest(folder / MANIFEST_FILE)[:16],
        sizes=((shapes.static_height * scale, shapes.static_width * scale),),
        batch=batch,
        cores=max(manifest.ranks, min(2, machine.cores)),  # as the pipeline takes them
        guided=guided,
    )
