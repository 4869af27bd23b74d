"""Whether a call fits the compiled programs, asked before any of them runs.

Arguments, defaults and meaning are those of diffusers' pipeline (0.35), which checks by itself
what does not depend on compiled shapes and says it well; what it would let through into a crash or a wrong picture is
refused here.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, PixArtSigmaPipeline
from torch import Tensor

from ..errors import ProgramInputError
from .arguments import unknown_arguments
from .batching import ProgramInput, refuse
from .sizes import CompiledSizes

_SCHEDULE = ("num_inference_steps", "timesteps", "sigmas")
"""One choice; None of them is as if it were left out."""
_OLD = ("mask_feature",)
"""Of `encode_prompt`, without meaning; diffusers says so."""


@dataclass(frozen=True, kw_only=True)
class CompiledCall:
    """What the programs of a pipeline can be asked for.

    Attributes:
        drawn: sizes of pictures; the first where a call names none.
        embeddings: what the transformer takes as text embeddings.
        mask: as their mask.
        latents: as latents, at the first size.
        prompts: how many a call must have; None for any number, which programs in batches take.
        images: how many they must make; None for any number.
        defaults: of arguments, where they are others than diffusers'.
        pipeline: of diffusers, that is called.
    """

    drawn: CompiledSizes
    embeddings: ProgramInput
    mask: ProgramInput
    latents: ProgramInput
    prompts: int | None = None
    images: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pipeline: type[DiffusionPipeline] = PixArtSigmaPipeline

    @property
    def tokens(self) -> int:
        """Tokens of a prompt."""
        return self.embeddings.shape[1]

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments by name, as diffusers' pipeline is to be called: tensors in the compiled dtypes, size and
        length filled in.

        Raises:
            ProgramInputError: an argument does not fit; names it, what is expected and what was given.
        """
        given, defaults = _bind(self.pipeline, "__call__", args, kwargs)
        given = {name: value for name, value in given.items() if value is not None or name not in _SCHEDULE}
        given = {**self._own_defaults(given), **given}
        call = {**defaults, **given}
        _check_numbers(call)
        fitted = {**given, **self._fit_size(call, given), "max_sequence_length": self._length(given)}
        prompts = self._check_prompts(call, guided=call["guidance_scale"] > 1)
        images = prompts * call["num_images_per_prompt"]
        self._check_images(call, prompts, images)
        _check_generators(call["generator"], images)
        for name in ("prompt_embeds", "negative_prompt_embeds"):
            if call[name] is not None:
                fitted[name] = self._fit_embeddings(name, call[name], prompts)
        for name in ("prompt_attention_mask", "negative_prompt_attention_mask"):
            if call[name] is not None:
                fitted[name] = self._fit_mask(name, call[name], prompts)
        if call["latents"] is not None:
            fitted["latents"] = self._fit_latents(call["latents"], images, self.drawn_at(fitted))
        return fitted

    def _own_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those that hold beside what was given: steps, timesteps and sigmas are one choice, whoever makes it.

        As many steps as there are default timesteps are steps at these, so that callers which always say a number,
        such as servers, draw at them.
        """
        steps = "num_inference_steps"
        chosen = {name for name in _SCHEDULE if name in given}
        same = chosen == {steps} and given[steps] == self.defaults.get(steps)
        dropped = set() if same or not chosen else {steps, "timesteps"}
        return {name: value for name, value in self.defaults.items() if name not in dropped}

    def fit_prompt(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments by name, as diffusers' `encode_prompt` is to be called: the length filled in.

        Raises:
            ProgramInputError: another length, prompts that do not fit each other or are none, or an argument that
                diffusers does not take.
        """
        given, defaults = _bind(self.pipeline, "encode_prompt", args, kwargs, also=_OLD)
        if isinstance(given.get("prompt"), tuple):  # which this method takes
            given["prompt"] = list(given["prompt"])
        asked = {**defaults, **given}
        _check_whole(asked, "num_images_per_prompt")
        self._check_prompts(asked, guided=asked["do_classifier_free_guidance"])
        return {**given, "max_sequence_length": self._length(given)}

    def drawn_at(self, fitted: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width in pixels of the program that draws a call, by its arguments from `fit`."""
        return self.drawn.check(fitted["height"], fitted["width"], binning=fitted["use_resolution_binning"])

    def _fit_size(self, call: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Height, width and whether diffusers has to map them to a bin; the first size where none was given."""
        height, width = (given.get(name) or side for name, side in zip(("height", "width"), self.drawn.sizes[0]))
        drawn = self.drawn.check(height, width, binning=call["use_resolution_binning"])
        return {"height": height, "width": width, "use_resolution_binning": (height, width) != drawn}

    def _length(self, given: dict[str, Any]) -> int:
        length = given.get("max_sequence_length")
        if length not in (None, self.tokens):
            refuse("max_sequence_length", self.tokens, length, f"export with --sequence_length {length}")
        return self.tokens

    def _check_prompts(self, call: dict[str, Any], *, guided: bool) -> int:
        """The number of prompts."""
        prompt, embeddings = call["prompt"], call["prompt_embeds"]
        if isinstance(prompt, str):
            prompts = 1
        elif isinstance(prompt, list) and prompt:
            prompts = len(prompt)
            _check_texts("prompt", prompt)
        elif prompt is None and embeddings is not None:
            prompts = self.embeddings.fit(embeddings, name="prompt_embeds", advice=self._padding(embeddings)).shape[0]
        else:
            refuse("prompt", "a string or a list of strings, or prompt_embeds", repr(prompt))
        if self.prompts not in (None, prompts):
            refuse("prompt", f"{self.prompts} prompt(s)", prompts, f"export with --batch_size {prompts}")
        if guided and call["negative_prompt_embeds"] is None:
            self._check_negative(call, prompts)
        return prompts

    def _check_negative(self, call: dict[str, Any], prompts: int) -> None:
        negative = call["negative_prompt"]
        # diffusers 0.35 cleans the caption None into "none", and fails where it does not clean it or has more prompts.
        if isinstance(negative, str) or (negative is None and prompts == 1 and call["clean_caption"]):
            return
        expected = f"a string, a list of {prompts}, one for each prompt, or negative_prompt_embeds"
        if not isinstance(negative, (list, tuple)):
            refuse("negative_prompt", expected, repr(negative))
        if len(negative) != prompts:
            refuse("negative_prompt", expected, f"a list of {len(negative)}")
        _check_texts("negative_prompt", negative)

    def _check_images(self, call: dict[str, Any], prompts: int, images: int) -> None:
        if self.images not in (None, images):
            refuse(
                "num_images_per_prompt",
                self.images // prompts,
                call["num_images_per_prompt"],
                f"export with --num_images_per_prompt {call['num_images_per_prompt']}",
            )
        if (self.images or 1) > 1 and not call["guidance_scale"] > 1:
            refuse("guidance_scale", "more than 1, which two cores run as pairs", call["guidance_scale"])

    def _fit_embeddings(self, name: str, embeddings: Any, prompts: int) -> Tensor:
        return self.embeddings.fit(embeddings, name=name, rows=prompts, advice=self._padding(embeddings))

    def _padding(self, embeddings: Any) -> str:
        if not isinstance(embeddings, Tensor) or embeddings.dim() != 3 or embeddings.shape[1] == self.tokens:
            return ""
        return (
            f"pad them to {self.tokens} tokens and mask those, or export with --sequence_length {embeddings.shape[1]}"
        )

    def _fit_mask(self, name: str, mask: Any, prompts: int) -> Tensor:
        """Any real dtype, as diffusers takes it; the values say what is text and what is padding."""
        if isinstance(mask, Tensor) and not mask.is_complex():
            if not ((mask == 0) | (mask == 1)).all():
                refuse(name, "1 for text and 0 for padding", f"values from {mask.min()} to {mask.max()}")
            mask = mask.to(self.mask.dtype)
        return self.mask.fit(mask, name=name, rows=prompts)

    def _fit_latents(self, latents: Any, images: int, size: tuple[int, int]) -> Tensor:
        scale, advice = self.drawn.sizes[0][0] // self.latents.shape[2], ""
        cells = tuple(side // scale for side in size)
        if isinstance(latents, Tensor) and latents.dim() == 4 and latents.shape[2:] != cells:
            tall, wide = (side * scale for side in latents.shape[2:])
            named = (tall, wide) in self.drawn.sizes
            advice = f"call with height={tall}, width={wide}" if named else self.drawn.export_with((tall, wide))
        expected = replace(self.latents, shape=(*self.latents.shape[:2], *cells))
        return expected.fit(latents, name="latents", rows=images, advice=advice)


_signature = cache(inspect.signature)


def _bind(
    pipeline: type[DiffusionPipeline], method: str, args: tuple, kwargs: dict[str, Any], also: tuple[str, ...] = ()
):
    """What was given by name, and the defaults of everything; diffusers ignores arguments that it does not know.

    Raises:
        ProgramInputError: such an argument, with the nearest that it knows.
    """
    signature = _signature(getattr(pipeline, method))
    parameters = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    unknown = [name for name in kwargs if name not in (*parameters, *also)]
    if unknown:
        raise ProgramInputError(
            unknown_arguments(unknown, parameters, of=f"diffusers {diffusers.__version__}'s {pipeline.__name__}")
        )
    given = dict(signature.bind(None, *args, **kwargs).arguments)
    del given["self"]
    given |= given.pop("kwargs", {})
    return given, {name: parameter.default for name, parameter in parameters.items()}


def _check_numbers(call: dict[str, Any]) -> None:
    _check_whole(call, "num_images_per_prompt")
    for name in ("height", "width", "max_sequence_length"):
        if call[name] is not None:
            _check_whole(call, name)
    for name in ("timesteps", "sigmas"):
        if call[name] is not None:
            _check_schedule(name, call[name])
    if call["timesteps"] is None and call["sigmas"] is None:
        _check_whole(call, "num_inference_steps")
    scale = call["guidance_scale"]
    if not _is_number(scale):
        refuse("guidance_scale", "a finite number", repr(scale))
    if call["callback"] is not None and not callable(call["callback"]):
        refuse("callback", "a function", repr(call["callback"]))


def _is_number(value: Any) -> bool:
    one = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    return (isinstance(value, Real) or one) and math.isfinite(value)


def _check_schedule(name: str, given: Any) -> None:
    """diffusers hands it to the scheduler as it is; of timesteps it says that they fall."""
    values = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(values, (list, tuple)) or not all(map(_is_number, values)):
        refuse(name, "a list of numbers", repr(given))
    if not values:
        refuse(name, "at least one", "none")
    if name == "timesteps" and any(later >= earlier for earlier, later in pairwise(values)):
        refuse(name, "numbers that fall from step to step", list(values))


def _check_whole(call: dict[str, Any], name: str) -> None:
    if not isinstance(call[name], Integral) or isinstance(call[name], bool) or call[name] < 1:
        refuse(name, "a whole number from 1 on", repr(call[name]))


def _check_texts(name: str, texts: Any) -> None:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            refuse(f"{name}[{number}]", "a string", repr(text))


def _check_generators(generator: Any, images: int) -> None:
    """diffusers looks at them only after the text encoder has run."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    expected = f"a torch.Generator or a list of {images}, one for each image"
    if not isinstance(generator, list) or len(generator) != images:
        found = f"a list of {len(generator)}" if isinstance(generator, list) else type(generator).__name__
        refuse("generator", expected, found)
    for number, one in enumerate(generator):
        if not isinstance(one, torch.Generator):
            refuse(f"generator[{number}]", "a torch.Generator", type(one).__name__)
