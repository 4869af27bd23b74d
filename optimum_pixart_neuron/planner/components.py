"""Every program of a pipeline as one core has it: memory, work, traffic, bound, and how often it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ..components.vae.tile_grid import tile_starts
from ..deployment.decisions import vae_tile_of
from .flops import Work, text_encoder_work, transformer_work, vae_decoder_work
from .geometry import Geometry
from .memory import Footprint, text_encoder_footprint, transformer_footprint, vae_decoder_footprint
from .placement import Deployment
from .request import Request
from .roofline import Bound, bound
from .traffic import Collectives, text_encoder_traffic, transformer_traffic


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """One program.

    Attributes:
        component: its folder in the export.
        footprint: bytes of one core.
        work: of one core in one run.
        collectives: of one run.
        bound: of one run.
        runs: one after another, for the images that a pipeline makes at once.
        core_runs: all runs on all cores.
    """

    component: str
    footprint: Footprint
    work: Work
    collectives: tuple[Collectives, ...]
    bound: Bound
    runs: int
    core_runs: int

    @property
    def bytes_sent(self) -> int:
        """Bytes one core sends in one run."""
        return sum(each.bytes_sent for each in self.collectives)

    @property
    def lower_bound_s(self) -> float:
        """Seconds of all runs."""
        return self.bound.seconds * self.runs

    def expected_s(self, efficiency: float) -> float:
        """Predicted seconds of all runs, collectives not hidden.

        The text encoder is taken at its bound, without the efficiency: see `published.py`.
        """
        return self.bound.unhidden_seconds * self.runs / (1 if self.component == "text_encoder" else efficiency)


def plan_components(geometry: Geometry, request: Request, deployment: Deployment) -> list[ComponentPlan]:
    """The programs in the order they run: text encoder, transformer, VAE decoder."""
    return [
        _text_encoder(geometry, request, deployment),
        _transformer(geometry, request, deployment),
        _vae_decoder(geometry, request, deployment),
    ]


def _text_encoder(geometry: Geometry, request: Request, deployment: Deployment) -> ComponentPlan:
    """The prompts of a batch in one run, their negatives in another."""
    size, ranks, itemsize = geometry.text_encoder, deployment.ranks, request.itemsize
    prompts = {"rows": request.batch_size, "tokens": request.sequence_length, "ranks": ranks}
    runs = deployment.batches * deployment.guidance_groups
    return _component(
        "text_encoder",
        request,
        deployment,
        footprint=text_encoder_footprint(size, itemsize=itemsize, **prompts),
        work=text_encoder_work(size, **prompts),
        collectives=text_encoder_traffic(size, itemsize=itemsize, **prompts),
        runs=runs,
        core_runs=runs * ranks,
    )


def _transformer(geometry: Geometry, request: Request, deployment: Deployment) -> ComponentPlan:
    size, itemsize = geometry.transformer, request.itemsize
    share = deployment.share(
        images=request.images, tokens=request.tokens(geometry), text_tokens=request.sequence_length
    )
    return _component(
        "transformer",
        request,
        deployment,
        footprint=transformer_footprint(
            size, share, lnc=deployment.instance.default_lnc, dtype=request.torch_dtype, itemsize=itemsize
        ),
        work=transformer_work(size, share),
        collectives=transformer_traffic(size, deployment, share, itemsize),
        runs=request.num_inference_steps,
        core_runs=request.num_inference_steps * deployment.cores,
    )


def _vae_decoder(geometry: Geometry, request: Request, deployment: Deployment) -> ComponentPlan:
    """Images or their tiles, one at a time on each of the pipeline's cores."""
    size, (height, width) = geometry.vae, request.size(geometry)
    tall, wide = vae_tile_of(request, height, width, size.scale)
    tiles = len(tile_starts(height // size.scale, tall // size.scale))
    tiles *= len(tile_starts(width // size.scale, wide // size.scale))
    cells = {"height": tall // size.scale, "width": wide // size.scale}
    decodes = request.images * deployment.batches * tiles
    return _component(
        "vae_decoder",
        request,
        deployment,
        footprint=vae_decoder_footprint(size, itemsize=request.itemsize, **cells),
        work=vae_decoder_work(size, **cells),
        collectives=[],
        runs=ceil(decodes / deployment.cores),
        core_runs=decodes,
    )


def _component(
    component: str,
    request: Request,
    deployment: Deployment,
    *,
    footprint: Footprint,
    work: Work,
    collectives: list[Collectives],
    runs: int,
    core_runs: int,
) -> ComponentPlan:
    return ComponentPlan(
        component=component,
        footprint=footprint,
        work=work,
        collectives=tuple(collectives),
        bound=bound(work, footprint.read, collectives, deployment.instance, request.torch_dtype),
        runs=runs,
        core_runs=core_runs,
    )
