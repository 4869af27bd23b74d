"""What an export decides from sizes alone: mode, ranks, exchange, tile."""

from __future__ import annotations

from typing import Protocol

from ..components.registry import COMPONENTS, DENOISER
from ..errors import InvalidExportOption
from ..hardware import Instance
from ..parallel.modes import OneCore, ParallelMode, Workload, mode_of
from .options import DeploymentOptions

# Pixels. Above, a VAE decoder on one core runs on tiles: its activations grow with the area.
MAX_UNTILED_SIDE = 1024
# Latent cells. A smaller tile would be all seam: a quarter of it is blended with each neighbour.
MIN_TILE_CELLS = 8


class Configurations(Protocol):
    """What a checkpoint is asked for."""

    def config(self, component: str) -> dict:
        """A component's `config.json`."""


def guidance_groups_of(options: DeploymentOptions) -> int:
    """Rows of a guided step that different ranks may own: 2, or 1 without guidance."""
    return 1 if options.no_guidance else 2


def check_side(flag: str, size: int, cell: int) -> None:
    """Refuse a height or width that is not made of whole tokens of `cell` pixels.

    Raises:
        InvalidExportOption: names flag, size and cell.
    """
    if size < cell or size % cell:
        raise InvalidExportOption(f"--{flag} {size} is not a positive multiple of {cell}, the pixels of one token")


def choose_mode(
    options: DeploymentOptions, instance: Instance, checkpoint: Configurations, tokens: int
) -> ParallelMode:
    """The mode and the ranks that were asked for, or the most ranks up to the mode's default that can share the work.

    Args:
        tokens: of one image.

    Raises:
        InvalidExportOption: what was asked for is more than the instance has, or cannot share the work.
    """
    cores = instance.logical_cores()
    if options.tensor_parallel_size is None:
        wanted = mode_of(options.parallel_mode, cores).wanted_ranks(instance)
        mode = next(
            (
                mode
                for ranks in range(wanted, 1, -1)
                if (mode := _possible(options, checkpoint, tokens, ranks, instance))
            ),
            None,
        )
    else:
        ranks = options.tensor_parallel_size
        if not 1 <= ranks <= cores:
            raise InvalidExportOption(f"--tensor_parallel_size {ranks}: {instance.name} has {cores} cores")
        mode = _checked(options, checkpoint, tokens, ranks, instance)
    mode = mode or OneCore(ranks=1, guidance_groups=guidance_groups_of(options))
    return mode.settled(denoiser_workload(checkpoint, tokens), options.exchange)


def _possible(
    options: DeploymentOptions, checkpoint: Configurations, tokens: int, ranks: int, instance: Instance
) -> ParallelMode | None:
    try:
        return _checked(options, checkpoint, tokens, ranks, instance)
    except InvalidExportOption:
        return None


def _checked(
    options: DeploymentOptions, checkpoint: Configurations, tokens: int, ranks: int, instance: Instance
) -> ParallelMode:
    """The mode for a number of ranks; every number but 1 is checked against the instance and every component.

    Raises:
        InvalidExportOption: names the number, what it does not divide or what the chips cannot form, and the flag.
    """
    allowed = sorted((*instance.chip.groups, *instance.chip.disputed_groups))
    if allowed and ranks not in allowed:
        raise InvalidExportOption(
            f"--tensor_parallel_size {ranks}: cores of {instance.name} form groups of"
            f" {', '.join(str(each) for each in allowed if each <= instance.logical_cores())}; choose one of these"
        )
    mode = mode_of(options.parallel_mode, ranks)(ranks=ranks, guidance_groups=guidance_groups_of(options))
    for component in COMPONENTS.values():
        if component.required:
            component.mode(mode, options).check(component.workload(checkpoint.config(component.part.name), tokens))
    return mode


def group_notes(instance: Instance, ranks: int) -> tuple[str, ...]:
    """What the user should know of so many cores of an instance, a line each."""
    if ranks not in instance.chip.disputed_groups:
        return ()
    agreed = ", ".join(str(each) for each in instance.chip.groups if each > 1)
    return (
        f"Neuron's documents do not agree that {ranks} cores of {instance.name} form a group (agreed: {agreed});"
        " try a small program first",
    )


def denoiser_workload(checkpoint: Configurations, tokens: int) -> Workload:
    """What a mode divides of the component that runs in every step."""
    return DENOISER.workload(checkpoint.config(DENOISER.part.name), tokens)


def vae_tile_of(
    options: DeploymentOptions, mode: ParallelMode, height: int, width: int, scale: int
) -> tuple[int, int]:
    """Height and width in pixels of what the VAE decoder takes at once.

    Args:
        mode: of the decoder. Ranks that share a picture take it whole.
        scale: pixels of a latent cell.

    Raises:
        InvalidExportOption: the tile is too small or not made of whole cells.
    """
    tile = options.vae_tile_size
    if mode.shares_batch:
        return height, width
    if tile is None:
        tile = MAX_UNTILED_SIDE
    elif tile < MIN_TILE_CELLS * scale or tile % scale:
        raise InvalidExportOption(
            f"--vae_tile_size {tile} is not a multiple of {scale} from {MIN_TILE_CELLS * scale} on"
        )
    return min(tile, height), min(tile, width)
