"""What an export decides from sizes alone: ranks, exchange, tile; without torch, because a plan decides by it too."""

from __future__ import annotations

from typing import Protocol

from ..errors import InvalidExportOption
from ..hardware import Instance
from ..parallel.exchange import EXCHANGES, HeadAllToAll, choose_exchange
from ..parallel.plans import TEXT_ENCODER_PLAN, TRANSFORMER_PLAN

# Ranks unless asked otherwise: the AWS sample's latency variants (trn2: one chip of 4 logical cores, else 8 cores).
DEFAULT_RANKS = {"trn2": 4, "trn1": 8, "trn1n": 8, "inf2": 8}

# Pixels. Above, the VAE decoder runs on tiles: its activations grow with the area.
MAX_UNTILED_SIDE = 1024
# Latent cells. A smaller tile would be all seam: a quarter of it is blended with each neighbour.
MIN_TILE_CELLS = 8


class Asked(Protocol):
    """The options that decide; an attribute a flag, as in `ExportOptions`."""

    tensor_parallel_size: int | None
    parallel_mode: str | None
    exchange: str | None
    no_guidance: bool
    vae_tile_size: int | None


class Configurations(Protocol):
    """What a checkpoint is asked for."""

    def config(self, component: str) -> dict:
        """A component's `config.json`."""


def guidance_groups_of(options: Asked) -> int:
    """Rows of a guided step that different ranks may own: 2, or 1 without guidance."""
    return 1 if options.no_guidance else 2


def takes_guidance_pair(guidance_groups: int, ranks: int) -> bool:
    """Whether one run of the transformer takes the guidance pair.

    On one core it does not: there the stock loader's DataParallel splits the pair over two cores.
    """
    return guidance_groups == 2 and ranks > 1


def check_dtype(name: str) -> None:
    """Refuse a type that no PixArt-Sigma can be compiled in.

    Raises:
        InvalidExportOption: float16.
    """
    if name == "float16":
        raise InvalidExportOption("--torch_dtype float16: T5 overflows in float16; choose bfloat16 or float32")


def check_side(flag: str, size: int, cell: int) -> None:
    """Refuse a height or width that is not made of whole tokens of `cell` pixels.

    Raises:
        InvalidExportOption: names flag, size and cell.
    """
    if size < cell or size % cell:
        raise InvalidExportOption(f"--{flag} {size} is not a positive multiple of {cell}, the pixels of one token")


def choose_ranks(options: Asked, instance: Instance, checkpoint: Configurations, tokens: int) -> int:
    """The ranks that were asked for, or the most up to the default that can share the work.

    Raises:
        InvalidExportOption: what was asked for is more than the instance has, or cannot share the work.
    """
    cores = instance.logical_cores()
    if options.tensor_parallel_size is not None:
        ranks = options.tensor_parallel_size
        if not 1 <= ranks <= cores:
            raise InvalidExportOption(f"--tensor_parallel_size {ranks}: {instance.name} has {cores} cores")
        check_ranks(options, checkpoint, tokens, ranks)
        return ranks
    # Throughput wants every core, latency as many as one image can use well.
    wanted = cores if options.parallel_mode == "data" else min(DEFAULT_RANKS[instance.family], cores)
    for ranks in range(wanted, 1, -1):
        try:
            check_ranks(options, checkpoint, tokens, ranks)
        except InvalidExportOption:
            continue
        return ranks
    return 1


def check_ranks(options: Asked, checkpoint: Configurations, tokens: int, ranks: int) -> None:
    """Refuse a number of ranks that cannot share the work; every number but 1 is checked.

    Raises:
        InvalidExportOption: names the number, what it does not divide, and the flag.
    """
    if ranks == 1:
        return
    TEXT_ENCODER_PLAN.check(checkpoint.config("text_encoder"), ranks)
    mode = options.parallel_mode or "context"
    if mode == "tensor":
        TRANSFORMER_PLAN.check(checkpoint.config("transformer"), ranks)
    if mode == "context":
        groups = guidance_groups_of(options)
        if ranks % groups:
            raise InvalidExportOption(
                f"--tensor_parallel_size {ranks} is odd, and the guidance pair needs {groups} equal groups;"
                " choose an even number or --no_guidance"
            )
        if tokens % (ranks // groups):
            raise InvalidExportOption(
                f"--tensor_parallel_size {ranks}: its {ranks // groups} sequence ranks do not divide the {tokens}"
                " tokens of the image"
            )


def exchange_of(options: Asked, transformer: dict, tokens: int, sequence_ranks: int) -> str:
    """The exchange of context mode that was asked for, or the one that sends fewer bytes.

    Raises:
        InvalidExportOption: it is unknown, or cannot divide the heads.
    """
    heads, head_width = transformer["num_attention_heads"], transformer["attention_head_dim"]
    if options.exchange is None:
        return choose_exchange(tokens=tokens, heads=heads, head_width=head_width, ranks=sequence_ranks)
    if options.exchange not in EXCHANGES:
        raise InvalidExportOption(f"--exchange {options.exchange}: known are {', '.join(EXCHANGES)}")
    if options.exchange == HeadAllToAll.name and heads % sequence_ranks:
        raise InvalidExportOption(
            f"--exchange {options.exchange}: {sequence_ranks} sequence ranks do not divide the {heads} attention heads"
        )
    return options.exchange


def vae_tile_of(options: Asked, height: int, width: int, scale: int) -> tuple[int, int]:
    """Height and width in pixels of what the VAE decoder takes at once; `scale` is the pixels of a latent cell.

    Raises:
        InvalidExportOption: the tile is too small or not made of whole cells.
    """
    tile = options.vae_tile_size
    if tile is None:
        tile = MAX_UNTILED_SIDE
    elif tile < MIN_TILE_CELLS * scale or tile % scale:
        raise InvalidExportOption(
            f"--vae_tile_size {tile} is not a multiple of {scale} from {MIN_TILE_CELLS * scale} on"
        )
    return min(tile, height), min(tile, width)
