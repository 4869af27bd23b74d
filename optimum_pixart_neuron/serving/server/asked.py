"""`POST /v1/images/generations`: the fields of a request, their limits, and the pictures that it asks for.

Fields of OpenAI's API keep name and meaning (API reference, "Create image"); the ones for PixArt-Sigma are named as
the arguments of diffusers' pipeline.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import printable
from ..exported import Exported
from ..picture import LARGEST_SEED, Kind, Picture, series
from .options import ServeOptions
from .refusal import Refusal

_AUTO = "auto"


class ImageRequest(BaseModel):
    """The body, with the limits that hold everywhere. null stands for a field that is left out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int = Field(1, ge=1)
    size: str = _AUTO
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    stream: bool = False
    user: str | None = Field(None, max_length=512)
    negative_prompt: str = ""
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=100)
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, given: Any) -> Any:
        return (
            {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given
        )

    @classmethod
    def read(cls, body: bytes) -> ImageRequest:
        """Parse a body; a Refusal with 400 names the first field that is wrong."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise _refusal(error) from None

    @property
    def image_format(self) -> str:
        """A key of `encoding.FORMATS`."""
        return "jpg" if self.output_format == "jpeg" else self.output_format

    def pictures(self, exported: Exported, options: ServeOptions) -> list[Picture]:
        """What is to be drawn; the seeds of several pictures count up from the request's, or from a random one.

        Raises:
            Refusal: 400; a value that this export or this server does not take.
        """
        for name in ("prompt", "negative_prompt"):
            if len(getattr(self, name)) > options.max_prompt_length:
                _refuse(name, f"has {len(getattr(self, name))} characters, {options.max_prompt_length} are allowed")
        if self.n > options.max_images:
            _refuse("n", f"{self.n}: a request makes at most {options.max_images} images")
        steps = self.num_inference_steps or options.default_steps or exported.steps
        if steps > options.max_steps:
            _refuse("num_inference_steps", f"{steps}: at most {options.max_steps} are allowed")
        scale = exported.guidance_scale if self.guidance_scale is None else self.guidance_scale
        if scale > 1 and not exported.guided:
            _refuse("guidance_scale", f"{scale:g}: exported with --no_guidance; leave it out")
        kind = Kind(*self._size(exported), steps, scale, self._interval(exported))
        seed = secrets.randbits(32) if self.seed is None else self.seed
        return series(self.n, prompt=self.prompt, negative_prompt=self.negative_prompt, seed=seed, kind=kind)

    def _interval(self, exported: Exported) -> tuple[float, float] | None:
        if self.guidance_interval is None:
            return None
        if not exported.takes_interval:
            _refuse("guidance_interval", "this export has no program without guidance, which it needs")
        begin, end = self.guidance_interval
        if not 0 <= begin < end <= 1:
            _refuse("guidance_interval", f"[{begin:g}, {end:g}]: two fractions of the schedule, 0 <= begin < end <= 1")
        return begin, end

    def _size(self, exported: Exported) -> tuple[int, int]:
        """(height, width); OpenAI writes the width first."""
        by_name = {size_name(size): size for size in exported.sizes}
        if self.size == _AUTO:
            return exported.sizes[0]
        if self.size not in by_name:
            _refuse("size", f"{printable(self.size)}: {exported.name} draws {', '.join(by_name)}")
        return by_name[self.size]


def size_name(size: tuple[int, int]) -> str:
    """(height, width) as OpenAI writes it."""
    height, width = size
    return f"{width}x{height}"


def _refuse(param: str, reason: str) -> None:
    raise Refusal(400, f"{param} {reason}", param=param, code="invalid_value")


def _refusal(error: ValidationError) -> Refusal:
    first = error.errors(include_url=False)[0]
    param = printable(first["loc"][0]) if first["loc"] else None
    if first["type"] == "extra_forbidden":
        return Refusal(400, f"{param} is unknown here", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return Refusal(400, f"{param} is missing", param=param, code="missing_required_parameter")
    if param is None:
        return Refusal(400, f"the body must be a JSON object: {printable(first['msg'], 200)}", code="invalid_json")
    shown = printable(first["input"]) or "(empty)"
    return Refusal(400, f"{param} {shown}: {printable(first['msg'], 200)}", param=param, code="invalid_value")
