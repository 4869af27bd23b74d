"""What an export of the released model needs of a machine, by the planner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..hardware import Instance

MODEL = "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
"""The released model whose export is asked about."""

COMPILER_SHARE = 3.7
"""Host memory of a compilation in parts of its program's weights and values. optimum-neuron 0.4.5's manual asks for
about 35 GB to compile T5-XXL for one core, whose bfloat16 weights are 9.5 GB; no other figure is published."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes.

    Attributes:
        instance: that it is exported for.
        ranks: of the pipeline.
        checkpoint: of the files of the released model, in float32.
        export: of the files of the export.
        memory: of the host while the largest program is compiled.
    """

    instance: Instance
    ranks: int
    checkpoint: int
    export: int
    memory: int

    @classmethod
    def of(cls, instance: Instance) -> Needs:
        """Ask the planner about the default export on an instance."""
        from ..planner.prediction import predict
        from ..planner.request import Request

        row = predict(Request(), instance)
        whole = predict(Request(torch_dtype="float32", tensor_parallel_size=1), instance)
        ranks = {part.component.name: row.deployment.mode_of(part.component).ranks for part in row.components}
        return cls(
            instance=instance,
            ranks=row.deployment.ranks,
            checkpoint=sum(part.cost.weights for part in whole.components),
            export=sum(part.cost.weights * ranks[part.component.name] for part in row.components),
            memory=int(COMPILER_SHARE * max(part.cost.weights + part.cost.activations for part in row.components)),
        )


def downloaded_bytes(hub_cache: Path) -> int:
    """Bytes of the released model's files that are in the download cache, whole."""
    blobs = hub_cache / f"models--{MODEL.replace('/', '--')}" / "blobs"
    files = blobs.iterdir() if blobs.is_dir() else ()
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".incomplete")
