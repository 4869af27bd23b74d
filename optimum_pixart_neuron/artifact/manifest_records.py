"""The parts of a manifest: what it says of components, their sources and programs, and of their validation."""

from math import isfinite, isnan
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from ..files import FileRecord
from .compiled import MOST_PROGRAMS, Count

Text = Annotated[str, Field(max_length=4096)]
_Size = Annotated[int, Field(ge=0, lt=1 << 31)]


def _as_json(number: float) -> float | str:
    """As null, infinity could not be read back."""
    if isfinite(number):
        return number
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


_Number = Annotated[float, PlainSerializer(_as_json, when_used="json")]


class Record(BaseModel):
    """A part of the manifest.

    Class attributes:
        LATER: fields that earlier releases did not write; where they say nothing they are left out, since the digests
            that those manifests have of themselves would not hold otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        for name in self.LATER:
            if not getattr(self, name):
                written.pop(name, None)
        return written


class TensorRecord(Record):
    """One input or output of a compiled program.

    Attributes:
        name: as the program's caller knows it.
        shape: as compiled; every dimension is static.
        dtype: such as "float32".
    """

    name: Text
    shape: Annotated[tuple[_Size, ...], Field(max_length=8)]
    dtype: Text


class AdapterRecord(Record):
    """An adapter that was merged into the weights.

    Attributes:
        name: its user's.
        model: Hub id, or folder as the user gave it.
        revision: commit on the Hub; None for a folder.
        file: of its tensors, by path in the repository or folder.
        content: of that file.
        scale: its user's factor.
        number: its place among all adapters of the export, in which they were merged.
    """

    name: Text
    model: Text
    revision: Text | None
    file: Text
    content: FileRecord
    scale: Annotated[float, Field(allow_inf_nan=False)]
    number: _Size


class SourceRecord(Record):
    """Where one component came from.

    Attributes:
        model: Hub id, or folder as the user gave it.
        revision: commit on the Hub; None for a folder.
        files: each file that was read, weights or what was copied, by its path in the component's folder.
        adapters: that were merged into the weights, in this order.
    """

    LATER = ("adapters",)

    model: Text
    revision: Text | None
    files: dict[Text, FileRecord]
    adapters: tuple[AdapterRecord, ...] = ()


class ProgramRecord(Record):
    """One of several programs of a component, which run on the same weights.

    Attributes:
        name: of the size in pixels, as in "768x1344"; `ONE_HALF` behind it for one without the guidance pair.
        file: where it lies in the component's folder; one file may hold several.
        inputs: in call order.
        outputs: in order.
    """

    name: Text
    file: Text
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]


class ProgramRecipe(Record):
    """What a compiled program was made of, but for the values of its weights.

    Attributes:
        graph: SHA-256 of the traced graph, and of what a caller or the compiler's environment adds to it.
        compiler_args: of neuronx-cc.
        target: of the compilation.
        ranks: that run it together.
        lnc: physical cores behind a logical one.
        versions: of compiler and packages that wrote it, by distribution name.
    """

    graph: Text
    compiler_args: Text
    target: Text
    ranks: Count
    lnc: Count
    versions: dict[Text, Text]


class ComponentRecord(Record):
    """One compiled component.

    Attributes:
        ranks: that run its program together.
        mode: how they share it, the name of a mode of `parallel.modes`; None where there is one core.
        inputs: in call order; of the first program.
        outputs: in order; likewise.
        programs: all of them, the first one first; empty where there is one.
        source: of its weights.
        inputs_digest: of everything that the compilation depended on; equal digests mean an equal component.
        attention: the kernel that computes it, "math" where it is written out; None where there is no choice.
        recipes: of each program, whose file may be taken for other weights; none where it holds the weights.
    """

    LATER = ("programs", "attention", "recipes")

    ranks: Count
    mode: Text | None = None
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    programs: Annotated[tuple[ProgramRecord, ...], Field(max_length=MOST_PROGRAMS)] = ()
    source: SourceRecord
    inputs_digest: Text
    attention: Text | None = None
    recipes: Annotated[tuple[ProgramRecipe, ...], Field(max_length=MOST_PROGRAMS)] = ()


class StepRecord(Record):
    """One step of a whole schedule, from the original's latents.

    Attributes:
        timestep: of the step.
        max_error: largest absolute difference from the original's prediction.
        allowed: the largest that passes.
        passed: the verdict, of this error and of the cosine.
    """

    timestep: _Number
    max_error: _Number
    allowed: _Number
    passed: bool


class ValidationRecord(Record):
    """The comparison of one program of a component with its original in float32.

    Attributes:
        component: its folder.
        program: its name among several of the component; None where there is one.
        max_error: largest absolute difference.
        cosine: of an output row and its original, the least of all rows.
        psnr: in dB, of the range of the original, the least of all rows; infinite where nothing differs.
        limit: what was allowed, and why, in words.
        passed: the verdict.
        ranks_differ: in what its ranks disagree, which are promised to return the same; None where they do not.
        steps: of a whole schedule; none unless they were asked for.
    """

    LATER = ("program", "ranks_differ", "steps")

    component: Text
    program: Text | None = None
    max_error: _Number
    cosine: _Number
    psnr: _Number
    limit: Text
    passed: bool
    ranks_differ: Text | None = None
    steps: tuple[StepRecord, ...] = ()

    @property
    def misses(self) -> str:
        """What is wrong with it, in words; empty where it passed."""
        late = [number for number, step in enumerate(self.steps, start=1) if not step.passed]
        wrong = [f"{self.label}: {self.ranks_differ}"] if self.ranks_differ else []
        if late:
            step = self.steps[late[0] - 1]
            wrong.append(
                f"{self.label} is off by {step.max_error:.3g} at step {late[0]} of {len(self.steps)}, timestep"
                f" {step.timestep:g} ({step.allowed:.2g} is allowed)"
            )
        if not self.passed and not wrong:
            wrong.append(f"{self.label} is off by {self.max_error:.3g} ({self.limit})")
        return "; ".join(wrong)

    @property
    def label(self) -> str:
        """For tables and messages."""
        return self.component if self.program is None else f"{self.component} {self.program}"
