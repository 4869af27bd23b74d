"""What an export decides from sizes alone: mode, ranks, exchange, tile."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Protocol

from ..components.registry import COMPONENTS, DENOISER
from ..errors import InvalidExportOption
from ..hardware import Instance
from ..parallel.modes import ParallelMode, Workload, mode_of
from .options import DeploymentOptions

# Pixels. Above, a VAE decoder on one core runs on tiles: its activations grow with the area.
MAX_UNTILED_SIDE = 1024
# Latent cells. A smaller tile would be all seam: a quarter of it is blended with each neighbour.
MIN_TILE_CELLS = 8


class Configurations(Protocol):
    """What a checkpoint is asked for."""

    def config(self, component: str) -> dict:
        """A component's `config.json`."""


def check_side(flag: str, size: int, cell: int) -> None:
    """Refuse a height or width that is not made of whole tokens of `cell` pixels.

    Raises:
        InvalidExportOption: names flag, size and cell.
    """
    if size < cell or size % cell:
        raise InvalidExportOption(f"--{flag} {size} is not a positive multiple of {cell}, the pixels of one token")


def choose_ranks(
    options: DeploymentOptions, instance: Instance, checkpoint: Configurations, tokens: Collection[int]
) -> int:
    """The ranks that were asked for, or the most up to the mode's default that can share the work of every program.

    Args:
        tokens: of one image of each size.

    Raises:
        InvalidExportOption: more were asked for than the instance has.
    """
    cores, ranks = instance.logical_cores(), options.tensor_parallel_size
    if ranks is None:
        wanted = mode_of(options.parallel_mode, cores).wanted_ranks(instance)

        def can_share(ranks: int) -> bool:
            try:
                for number, guided in product(tokens, options.pairs):
                    _checked(options, checkpoint, number, ranks, guided, instance)
            except InvalidExportOption:
                return False
            return True

        return next(filter(can_share, range(wanted, 1, -1)), 1)
    if not 1 <= ranks <= cores:
        raise InvalidExportOption(f"--tensor_parallel_size {ranks}: {instance.name} has {cores} cores")
    return ranks


def choose_mode(
    options: DeploymentOptions,
    checkpoint: Configurations,
    tokens: int,
    ranks: int,
    guided: bool,
    instance: Instance,
) -> ParallelMode:
    """The mode of one program, on so many ranks; every number but 1 is checked against every component.

    Args:
        tokens: of one image.
        guided: whether guidance is computed in it.

    Raises:
        InvalidExportOption: the ranks cannot share the work; names the number, what it does not divide, and the flag.
    """
    mode = _checked(options, checkpoint, tokens, ranks, guided, instance)
    return mode.settled(denoiser_workload(checkpoint, tokens), options.exchange)


def _checked(
    options: DeploymentOptions,
    checkpoint: Configurations,
    tokens: int,
    ranks: int,
    guided: bool,
    instance: Instance,
) -> ParallelMode:
    """The mode for a number of ranks; every number but 1 is checked against the instance and every component.

    Raises:
        InvalidExportOption: names the number, what it does not divide or what the chips cannot form, and the flag.
    """
    allowed = sorted((*instance.chip.groups, *instance.chip.disputed_groups))
    if allowed and ranks > 1 and ranks not in allowed:
        raise InvalidExportOption(
            f"--tensor_parallel_size {ranks}: cores of {instance.name} form groups of"
            f" {', '.join(str(each) for each in allowed if each <= instance.logical_cores())}; choose one of these"
        )
    mode = mode_of(options.parallel_mode, ranks)(ranks=ranks, guidance_groups=2 if guided else 1)
    for component in COMPONENTS.values() if ranks > 1 else ():
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
