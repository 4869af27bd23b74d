"""What an export decides from sizes alone: image sizes, ranks, mode, tile."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from itertools import product
from typing import Protocol

from ..components.registry import COMPONENTS, DENOISER, IMAGE_DECODER
from ..errors import InvalidExportOption
from ..hardware import Instance
from ..parallel.modes import ParallelMode, Workload, mode_of
from .options import BINS, DeploymentOptions
from .sides import Sides, Size, pixels, resolution_bins

# Pixels. Above, a VAE decoder on one core runs on tiles: its activations grow with the area.
MAX_UNTILED_SIDE = 1024
# Latent cells. A smaller tile would be all seam: a quarter of it is blended with each neighbour.
MIN_TILE_CELLS = 8


class Configurations(Protocol):
    """What decisions and plans ask of a checkpoint; `PixArtCheckpoint` and `Released` have it.

    Attributes:
        source: what the user calls it.
        sources: names of its parts.
    """

    @property
    def source(self) -> str: ...

    @property
    def sources(self) -> Container[str]: ...

    def config(self, component: str) -> dict:
        """A component's `config.json`."""


@dataclass(frozen=True)
class Question:
    """What is to be decided: how a checkpoint runs on an instance, where the options leave it open."""

    options: DeploymentOptions
    checkpoint: Configurations
    instance: Instance

    @property
    def denoiser(self) -> dict:
        """Configuration of the component that runs in every step."""
        return self.checkpoint.config(DENOISER.part.name)

    @property
    def scale(self) -> int:
        """Pixels of a latent cell."""
        return IMAGE_DECODER.pixels_per_cell(self.checkpoint.config(IMAGE_DECODER.part.name))

    @property
    def native(self) -> int:
        """Pixels of a side that the checkpoint was trained for."""
        return self.denoiser["sample_size"] * self.scale

    @property
    def bins(self) -> list[Size]:
        """The checkpoint's aspect ratios; none where diffusers has no table for it."""
        return [(int(tall), int(wide)) for tall, wide in resolution_bins(self.denoiser["sample_size"]).values()]

    def workload(self, size: Size) -> Workload:
        """What a mode divides of the denoiser, for one image."""
        return DENOISER.workload(self.denoiser, self._tokens(size))

    def _tokens(self, size: Size) -> int:
        return size[0] * size[1] // (self.scale * self.denoiser["patch_size"]) ** 2

    def sizes(self) -> list[Size]:
        """Of every program, the first one first: of aspect ratios the native one. InvalidExportOption without any."""
        options, native = self.options, self.native
        if options.sizes != (BINS,):
            return options.named_sizes or [(options.height or native, options.width or native)]
        if not self.bins:
            raise InvalidExportOption(
                f"--sizes {BINS}: the checkpoint has none; name sizes, such as {native}x{native}"
            )
        return list(dict.fromkeys([(native, native), *self.bins]))

    def check_size(self, size: Size) -> tuple[str, ...]:
        """What the user should know of an image size, a line each.

        Raises:
            InvalidExportOption: it is not made of whole tokens, or lies outside what the checkpoint was trained for;
                names flag, size and limits.
        """
        denoiser = self.denoiser
        sides = Sides.of(denoiser["sample_size"], patch_size=denoiser["patch_size"], scale=self.scale)
        if refusal := sides.refusal(size):
            raise InvalidExportOption(refusal)
        if size in self.bins:
            return ()
        none = f"{pixels(size)} is none of the checkpoint's resolutions"
        reason = none if self.bins else "the checkpoint has no bins"
        return (f"{reason}: optimum.neuron's own class needs use_resolution_binning=False",)

    def ranks(self, sizes: Collection[Size]) -> int:
        """The ranks that were asked for, or the most up to the mode's default that can share the work of all programs.

        Raises:
            InvalidExportOption: more were asked for than the instance has.
        """
        cores, ranks = self.instance.logical_cores(), self.options.tensor_parallel_size
        if ranks is not None:
            if ranks > cores:
                raise InvalidExportOption(f"--tensor_parallel_size {ranks}: {self.instance.name} has {cores} cores")
            return ranks

        def can_share(ranks: int) -> bool:
            try:
                for size, guided in product(sizes, self.options.pairs):
                    self._checked(size, ranks, guided)
            except InvalidExportOption:
                return False
            return True

        wanted = mode_of(self.options.parallel_mode, cores).wanted_ranks(self.instance)
        return next(filter(can_share, range(wanted, 1, -1)), 1)

    def mode(self, size: Size, ranks: int, guided: bool) -> ParallelMode:
        """The mode of one program, on so many ranks.

        Args:
            guided: whether guidance is computed in it.

        Raises:
            InvalidExportOption: the ranks cannot share the work; names the number, what it does not divide or what the
                chips cannot form, and the flag.
        """
        return self._checked(size, ranks, guided).settled(self.workload(size), self.options)

    def _checked(self, size: Size, ranks: int, guided: bool) -> ParallelMode:
        """Checked against the instance and every component, as every number but 1 is."""
        allowed = sorted((*self.instance.chip.groups, *self.instance.chip.disputed_groups))
        if allowed and ranks > 1 and ranks not in allowed:
            raise InvalidExportOption(
                f"--tensor_parallel_size {ranks}: cores of {self.instance.name} form groups of"
                f" {', '.join(str(each) for each in allowed if each <= self.instance.logical_cores())}; choose one of"
                " these"
            )
        mode = self._mode(ranks, guided)
        for component in COMPONENTS.values() if ranks > 1 else ():
            if component.required:
                config = self.checkpoint.config(component.part.name)
                component.mode(mode, self.options).check(component.workload(config, self._tokens(size)))
        return mode

    def _mode(self, ranks: int, guided: bool) -> ParallelMode:
        return mode_of(self.options.parallel_mode, ranks)(ranks=ranks, guidance_groups=2 if guided else 1)

    def pairs(self, ranks: int) -> tuple[tuple[bool, ...], tuple[str, ...]]:
        """For each program of a size whether guidance is computed in it, and what to say of that."""
        pairs = self.options.pairs
        if len(pairs) == 1 or self._mode(ranks, pairs[0]).shares_batch:
            return pairs, ()
        return pairs[:1], (
            f"--guidance {self.options.guidance} changes nothing here: a program of one core runs on rows with"
            " guidance or without, and fills up with other images",
        )

    def group_notes(self, ranks: int) -> tuple[str, ...]:
        """What the user should know of so many cores of the instance, a line each."""
        chip = self.instance.chip
        if ranks not in chip.disputed_groups:
            return ()
        agreed = ", ".join(str(each) for each in chip.groups if each > 1)
        return (
            f"Neuron's documents do not agree that {ranks} cores of {self.instance.name} form a group (agreed:"
            f" {agreed}); try a small program first",
        )

    def vae_tile(self, mode: ParallelMode, size: Size) -> Size:
        """What the VAE decoder takes at once.

        Args:
            mode: of the decoder. Ranks that share a picture take it whole.

        Raises:
            InvalidExportOption: the tile is too small or not made of whole cells.
        """
        if mode.shares_batch:
            return size
        tile, scale = self.options.vae_tile_size or MAX_UNTILED_SIDE, self.scale
        if self.options.vae_tile_size and (tile < MIN_TILE_CELLS * scale or tile % scale):
            raise InvalidExportOption(
                f"--vae_tile_size {tile} is not a multiple of {scale} from {MIN_TILE_CELLS * scale} on"
            )
        return min(tile, size[0]), min(tile, size[1])
