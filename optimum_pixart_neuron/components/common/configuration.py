"""What a `config.json` may say: the keys that diffusers and transformers read, with types and limits.

A number in a file makes modules and tensors, so each has a limit far above any model of its kind. Keys that are not
listed are dropped, as diffusers does with a warning: none of them, such as `dtype` or `quantization_config`, changes
what an export computes.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1 << 10)]
"""Of layers, heads, channels of latents."""
Width = Annotated[int, Field(ge=1, le=1 << 17)]
"""Of a layer, in elements."""
Rows = Annotated[int, Field(ge=1, le=1 << 21)]
"""Of an embedding; the largest vocabulary of a T5 has 256 384."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(max_length=200)]


class Configuration(BaseModel):
    """One component's `config.json`.

    Attributes:
        class_name: of diffusers; what transformers writes has `model_type`.
        diffusers_version: that wrote the file.
    """

    READ: ClassVar[tuple[str, ...]] = ()
    """Keys that diffusers' pipelines read of a loaded part (0.35, `__call__`). Its own classes fill in what a file
    leaves out; beside a compiled part nothing does, so an export states them."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore")

    class_name: Name | None = Field(default=None, alias="_class_name")
    diffusers_version: Name | None = Field(default=None, alias="_diffusers_version")

    def decisive(self) -> dict[str, Any]:
        """What decides the program that is made of it, with what is left out filled in."""
        return self.model_dump(exclude={"class_name", "diffusers_version"})

    def as_written(self) -> dict[str, Any]:
        """The file's own keys and values, without those that are not listed here, and what pipelines read."""
        return self.model_dump(by_alias=True, exclude_unset=True) | {name: getattr(self, name) for name in self.READ}
