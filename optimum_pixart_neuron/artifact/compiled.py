"""What a compiled component says of itself: its files, and the `neuron` section of its `config.json`.

The exporter writes that section, and optimum-neuron's loader goes by the keys that optimum-neuron 0.4.5
(`store_compilation_config`) puts there; ours are beside them. Everybody else reads it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..components.component import ONE_HALF
from ..errors import ArtifactError, printable
from ..files import read_json, typed

CONFIG_FILE = "config.json"
PROGRAM_FILE = "model.neuron"
WEIGHTS_FOLDER = "weights"
SHARD_NAME = re.compile(r"tp(\d+)_sharded_checkpoint\.safetensors")
"""Of the weight file of one rank, as optimum-neuron 0.4.5 `NeuronTracedModel.load_model` looks for it."""

AGAIN = "export or download it again"
"""What to do about files that are not as they should be."""

PROGRAM_PATH = re.compile(rf"([1-9]\d{{0,4}}x[1-9]\d{{0,4}}({ONE_HALF})?/)?{re.escape(PROGRAM_FILE)}")
"""Of a program in a component's folder; further programs of one core have a folder each."""
MOST_PROGRAMS = 256
"""Of a component; diffusers' largest table has 40 aspect ratios."""

_SIZE = "static_"
_LARGEST = 1 << 16
"""Of an axis."""
_MOST_ELEMENTS = 1 << 28
"""Of an input; 4096 x 4096 px in three channels are 50 million."""
_SECTION = "neuron"
_STOCK_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Count = Annotated[int, Field(ge=1, le=1024)]
"""Of cores; the largest instance has 128."""


def shard_files(component: Path, ranks: int) -> list[Path]:
    """The weight file of each rank in a component's folder."""
    return [component / WEIGHTS_FOLDER / f"tp{rank}_sharded_checkpoint.safetensors" for rank in range(ranks)]


class Parallel(BaseModel):
    """How a component uses the cores.

    Attributes:
        mode: name of its parallel mode; None on one core.
        ranks: that run its program together; 1 for a copy on each core.
        guided: whether one run takes both rows of the guidance pair, twice `batch_size`.
        groups: ranks that exchange with each other; None for one rank.
        exchange: how, a name of `parallel.exchange.EXCHANGES`; None where there is nothing to choose.
        collectives: of one run, kind -> count and bytes that one rank sends.
    """

    model_config = ConfigDict(frozen=True)

    mode: str | None
    ranks: Count
    guided: bool
    groups: tuple[tuple[int, ...], ...] | None = None
    exchange: str | None = None
    collectives: dict[str, dict[str, int]] = {}


class CompiledProgram(BaseModel):
    """One of several programs of a component, which run on the same weights.

    Attributes:
        name: of the size, and of the half of a guidance pair that it takes alone.
        file: where it lies in the component's folder.
        height, width: in pixels, of what it makes.
        guided: whether one run takes both rows of the guidance pair.
        axes: what it is compiled for, as `Compiled.sizes`.
        groups, exchange, collectives: as in `Parallel`.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(max_length=64)]
    file: Annotated[str, Field(pattern=f"^{PROGRAM_PATH.pattern}$")]
    height: Annotated[int, Field(ge=1, le=_LARGEST)]
    width: Annotated[int, Field(ge=1, le=_LARGEST)]
    guided: bool
    axes: dict[str, Annotated[int, Field(ge=1, le=_LARGEST)]]
    groups: tuple[tuple[int, ...], ...] | None = None
    exchange: str | None = None
    collectives: dict[str, dict[str, int]] = {}


class Compiled(BaseModel):
    """The `neuron` section; keys of optimum-neuron that nothing here asks for are kept as they are.

    Attributes:
        model_type, task: under which the TasksManager has its config.
        instance_type: family that the compiler was called for.
        target: neuronx-cc's `--target`; None in sections of the stock exporter, as all that follow.
        lnc: physical cores behind a logical one.
        compiler_version: of neuronx-cc.
        compiler_args: its command line.
        tensor_parallel_size: ranks of the pipeline: the stock loader reads that many weight files of each component.
        inline_weights_to_neff: whether the program holds its weights.
        dynamic_batch_size: whether the program cuts larger batches itself.
        auto_cast: what the compiler was allowed to cast; None or "none" for nothing.
        float_dtype, int_dtype: at the program's borders, in optimum-neuron's words.
        torch_dtype: of weights and matmuls; None in sections of the stock exporter.
        parallel: None in sections of the stock exporter.
        attention: by which kernel, in components that may have one.
        programs: all of them where there are several; the rest of the section is that of the first.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    model_type: str | None = None
    task: str | None = None
    instance_type: str | None = None
    target: str | None = None
    lnc: Count | None = None
    compiler_version: str | None = None
    compiler_args: str | None = None
    tensor_parallel_size: Count = 1
    inline_weights_to_neff: bool = True
    dynamic_batch_size: bool = False
    auto_cast: str | None = None
    float_dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    int_dtype: Literal["int64", "int32", "int8", "bool"] = "int64"
    torch_dtype: str | None = None
    parallel: Parallel | None = None
    attention: dict[str, str] | None = None
    programs: Annotated[tuple[CompiledProgram, ...], Field(max_length=MOST_PROGRAMS)] = ()

    @model_validator(mode="after")
    def _check_sizes(self) -> Compiled:
        for axis, size in self.sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _LARGEST:
                raise ValueError(f"{_SIZE}{printable(axis)} is {printable(repr(size))}, no size")
        for sizes in (self.sizes, *(program.axes for program in self.programs)):
            elements = prod(sizes.get(axis, 1) for axis in ("batch_size", "num_channels", "height", "width"))
            if elements > _MOST_ELEMENTS:
                raise ValueError(f"its inputs have {elements} elements, more than any instance holds")
        return self

    @property
    def files(self) -> list[str]:
        """Paths of the programs in the component's folder."""
        return list(dict.fromkeys(program.file for program in self.programs)) or [PROGRAM_FILE]

    def each(self) -> list[Compiled]:
        """This section as it would be of each program alone, the first one first."""
        if not self.programs or self.parallel is None:
            return [self]
        sections = []
        for program in self.programs:
            own = {name: getattr(program, name) for name in ("guided", "groups", "exchange", "collectives")}
            sizes = {f"{_SIZE}{axis}": size for axis, size in program.axes.items()}
            changed = {"parallel": self.parallel.model_copy(update=own), "programs": (program,)}
            sections.append(self.model_copy(update={**changed, **sizes}))
        return sections

    @property
    def program(self) -> CompiledProgram | None:
        """The program of a section of `each`; None where the component has one only."""
        return self.programs[0] if self.programs else None

    @property
    def axes(self) -> dict[str, int | None]:
        """Every axis that the section names, with its size; None where the exporter had none to say."""
        extra = self.model_extra or {}
        return {key.removeprefix(_SIZE): size for key, size in extra.items() if key.startswith(_SIZE)}

    @property
    def sizes(self) -> dict[str, int]:
        """What the program is compiled for, by axis; `batch_size` is that of one half of a guidance pair."""
        return {axis: size for axis, size in self.axes.items() if size is not None}

    @property
    def is_ours(self) -> bool:
        """Whether this package compiled it, not the stock exporter."""
        return self.parallel is not None

    @property
    def batch(self) -> int:
        """Rows that one run of the program takes."""
        return self.sizes["batch_size"] * (2 if self.parallel and self.parallel.guided else 1)

    @property
    def ranks(self) -> int:
        """Ranks that run the program together."""
        return self.parallel.ranks if self.parallel else self.tensor_parallel_size

    @property
    def compiled_for(self) -> str | None:
        """The target, or where it is not recorded the family."""
        return self.target or self.instance_type

    @property
    def weights_dtype(self) -> str:
        """Of weights and matmuls, by name; the stock exporter records that of the borders only, which is the same."""
        return self.torch_dtype or _STOCK_DTYPES.get(self.float_dtype, "float32")

    @property
    def precision(self) -> str:
        """Of the matrix products: "float32" or "bfloat16"; any cast by the compiler counts as the latter."""
        return "bfloat16" if self.auto_cast not in (None, "none") else self.weights_dtype

    @classmethod
    def of(cls, config: Mapping[str, Any], named: str | Path) -> Compiled | None:
        """The section of a `config.json`'s content; None where nothing is compiled, an ArtifactError if damaged.

        Args:
            named: the file, for messages.
        """
        if not config.get(_SECTION):
            return None
        return typed(config[_SECTION], cls, f"{named}: {_SECTION}", ArtifactError, advice=AGAIN)

    @classmethod
    def read(cls, component: Path) -> Compiled | None:
        """The section in a component's folder; None where nothing in it is compiled.

        To have no `config.json`, or a damaged one, is an ArtifactError.
        """
        return cls.of(read_json(component / CONFIG_FILE, ArtifactError, advice=AGAIN), component / CONFIG_FILE)

    @classmethod
    def require(cls, component: Path) -> Compiled:
        """As `read`, of a folder that must hold a compiled component: that nothing in it is, is an ArtifactError."""
        compiled = cls.read(component)
        if compiled is None:
            raise ArtifactError(f"{component}: nothing in it is compiled; {AGAIN}")
        return compiled

    def into(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a `config.json` with this section in it."""
        return {**config, _SECTION: self.model_dump(mode="json", exclude_unset=True)}
