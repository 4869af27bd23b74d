"""Options that decide how a checkpoint is laid out on an instance: cores, sizes, precision."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..components.common.attention_kernel import WRITTEN_OUT
from ..errors import InvalidExportOption
from ..hardware import get_instance
from ..options import Count, Flag, Options
from ..parallel.exchange import EXCHANGES
from ..parallel.modes import DEFAULT_MODE, MODES, PICTURE_MODES

if TYPE_CHECKING:
    from typing_extensions import Self

_CORES, _COMPILATION, _SHAPES = "Cores", "Compilation", "Input shapes"
_NO_CAST = "none"
BINS = "bins"
"""Of `--sizes`: every aspect ratio of the checkpoint."""
GUIDANCE = {"on": (True,), "off": (False,), "both": (True, False)}
"""What `--guidance` compiles, a program each -> whether it takes the guidance pair."""
_SIZE = re.compile(r"[1-9]\d{0,5}x[1-9]\d{0,5}")
_OPTLEVELS = {
    "-O1": (1, "Compile fast, with the core optimisations only; the default."),
    "-O2": (2, "Balance compile time and speed."),
    "-O3": (3, "Optimise further, with more compile time and host memory."),
}


def _known_instance(name: str) -> str:
    get_instance(name)
    return name


InstanceName = Annotated[str, AfterValidator(_known_instance)]
"""Product name or family of an instance that is known."""


def _name_of_dtype(value: Any) -> Any:
    """`torch.float32` -> "float32"; torch is not imported to ask."""
    return str(value).removeprefix("torch.") if type(value).__name__ == "dtype" else value


def _no_float16(name: str) -> str:
    if name == "float16":
        raise ValueError("T5 overflows in float16; choose bfloat16 or float32")
    return name


def _size_names(given: Any) -> Any:
    """Sizes as the command line writes them; Python may give pairs of numbers, and one size without a list."""
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, (list, tuple)):
        return given
    return tuple("x".join(map(str, size)) if isinstance(size, (list, tuple)) else size for size in several)


def _known_sizes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name == BINS and len(names) > 1:
            raise ValueError(f"{BINS} stands for every size of the checkpoint; leave the others out")
        if name != BINS and not _SIZE.fullmatch(name):
            raise ValueError(f"write a size as HEIGHTxWIDTH, such as 768x1344, or {BINS}")
        if names.count(name) > 1:
            raise ValueError(f"{name} is there twice")
    return names


def _no_cast_is_none(name: str) -> str | None:
    return None if name == _NO_CAST else name


class DeploymentOptions(Options):
    """What is asked of an instance. None where the checkpoint or the instance decides."""

    instance_type: Annotated[InstanceName | None, Flag(group=_CORES, metavar="INSTANCE")] = Field(
        None,
        description=(
            "Instance to compile for: trn1, trn1n, inf2, trn2, or a full name such as trn2.48xlarge; default: this"
            " machine, or on the emulator what NEURON_EMULATOR_INSTANCE says."
        ),
    )
    tensor_parallel_size: Annotated[Count | None, Flag(hidden=("--num_cores",), group=_CORES)] = Field(
        None, description="Cores to spread the model over; default: 4 on trn2, else 8 or all."
    )
    parallel_mode: Annotated[str | None, Flag(choices=MODES, group=_CORES)] = Field(
        None,
        description=(
            "How the cores share the steps: "
            + ", ".join(f"{name} {mode.help}" for name, mode in MODES.items())
            + f"; default: {DEFAULT_MODE.name}."
        ),
    )
    exchange: Annotated[str | None, Flag(choices=EXCHANGES, group=_CORES)] = Field(
        None, description="How cores see each other's tokens in context mode; default: whichever sends fewer bytes."
    )
    vae_parallel: Annotated[str, Flag(choices=("auto", *PICTURE_MODES), group=_CORES)] = Field(
        "auto",
        description=(
            "How the cores share the VAE: rows is a band of every picture for each core, images a picture for each,"
            " one a single core; auto is rows for one picture, for several what the plan expects to be sooner done."
        ),
    )
    no_guidance: Annotated[bool, Flag(group=_CORES)] = Field(
        False, description="Compile the transformer without the guidance pair, for few-step checkpoints."
    )
    guidance: Annotated[str | None, Flag(choices=GUIDANCE, group=_CORES)] = Field(
        None,
        description=(
            "What the transformer takes: on is the guidance pair, off one half of it as --no_guidance, both is a"
            " program for each with the weights of one; default: on."
        ),
    )
    torch_dtype: Annotated[
        str,
        BeforeValidator(_name_of_dtype),
        AfterValidator(_no_float16),
        Flag(choices=("bfloat16", "float32"), group=_COMPILATION),
    ] = Field("bfloat16", description="Type of the weights and matrix products.")
    auto_cast: Annotated[
        str | None, AfterValidator(_no_cast_is_none), Flag(choices=(_NO_CAST, "matmul", "all"), group=_COMPILATION)
    ] = Field(None, description="What the compiler may cast below FP32; default: none.")
    auto_cast_type: Annotated[str, Flag(choices=("bf16", "fp16", "tf32"), group=_COMPILATION)] = Field(
        "bf16", description="Type that --auto_cast casts to."
    )
    optlevel: Annotated[
        int | None, Flag(names=("-O",), switches=_OPTLEVELS, choices=(1, 2, 3), group="Optimisation level")
    ] = Field(None, description="How far the compiler optimises; default: 1.")
    attention: Annotated[str, Flag(choices=("auto", "nki", WRITTEN_OUT), group=_COMPILATION)] = Field(
        "auto",
        description=(
            "Attention of the transformer: nki is the SDK's kernel, math is written out, auto is the kernel where it"
            " takes the size and is sooner done by the peaks of the instance."
        ),
    )
    with_vae_encoder: Annotated[bool, Flag(group=_COMPILATION)] = Field(
        False, description="Compile the VAE encoder too; text-to-image does not use it."
    )
    batch_size: Annotated[Count, Flag(group=_SHAPES)] = Field(1, description="Prompts per run.")
    num_images_per_prompt: Annotated[Count, Flag(group=_SHAPES)] = Field(1, description="Images per prompt.")
    height: Annotated[Count | None, Flag(group=_SHAPES)] = Field(
        None, description="Image height in pixels; default: the size the checkpoint was trained for."
    )
    width: Annotated[Count | None, Flag(group=_SHAPES)] = Field(
        None, description="Image width in pixels; default: the size the checkpoint was trained for."
    )
    sizes: Annotated[
        tuple[str, ...],
        BeforeValidator(_size_names),
        AfterValidator(_known_sizes),
        Flag(nargs="+", metavar="HEIGHTxWIDTH", group=_SHAPES),
    ] = Field(
        (),
        description=(
            "Image sizes in pixels, a program for each with the weights of one, in place of --height and --width; the"
            f" first is drawn where a call names none. {BINS}: every aspect ratio of the checkpoint."
        ),
    )
    vae_tile_size: Annotated[Count | None, Flag(group=_SHAPES)] = Field(
        None,
        description=(
            "Side in pixels of the tiles the VAE decoder takes, spread over the cores; default: 1024 on one core,"
            " none where the cores share the rows of a picture."
        ),
    )
    sequence_length: Annotated[Count | None, Flag(group=_SHAPES)] = Field(
        None, description="Tokens per prompt; default: 300, of PixArt-Alpha 120."
    )

    @model_validator(mode="after")
    def _said_once(self) -> DeploymentOptions:
        if self.sizes and (self.height or self.width):
            raise InvalidExportOption("--sizes: it stands for --height and --width; leave those out")
        if self.no_guidance and self.guidance is not None:
            raise InvalidExportOption(
                f"--no_guidance: it stands for --guidance off; leave out --guidance {self.guidance}"
            )
        return self

    def completed(self, *, tokens: int, unguided: bool = False) -> Self:
        """With what the checkpoint decides where nobody named it.

        Args:
            tokens: of a prompt.
            unguided: whether its calls need no guidance pair.
        """
        return self.changed(
            sequence_length=self.sequence_length or tokens,
            no_guidance=self.no_guidance or (unguided and self.guidance is None),
        )

    @property
    def named_sizes(self) -> list[tuple[int, int]]:
        """(height, width) in pixels of each of `sizes`."""
        return [(int(tall), int(wide)) for tall, wide in (name.split("x") for name in self.sizes if name != BINS)]

    @property
    def first_size(self) -> tuple[int | None, int | None]:
        """Height and width in pixels that are asked for in the first place; None where the checkpoint decides."""
        return next(iter(self.named_sizes), (self.height, self.width))

    @property
    def pairs(self) -> tuple[bool, ...]:
        """For each program of a size, the first one first, whether guidance is computed in it."""
        return GUIDANCE["off" if self.no_guidance else self.guidance or "on"]
