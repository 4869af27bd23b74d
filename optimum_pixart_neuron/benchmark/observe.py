"""Put clocks around the compiled programs of a loaded pipeline and around the parts of its work on the host."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from ..components.component import Per
from ..components.registry import COMPONENTS
from ..components.scheduler.spec import SCHEDULER
from ..components.vae.tiling import TiledDecoder
from ..runtime.batching import BatchedProgram
from ..runtime.followers import Followed
from ..runtime.prompt_cache import PromptCache
from ..runtime.several_programs import SeveralPrograms
from .spans import Recorder

HOST_PARTS = {
    "prompt": (("pipeline", "encode_prompt"),),
    SCHEDULER.name: tuple((SCHEDULER.name, method) for method in ("set_timesteps", "scale_model_input", "step")),
    "picture": (("image_processor", "postprocess"),),
}
"""Parts of the host's work -> the methods that do it: tokens, masks, embeddings; the solver; from the decoded tensor
to images. What is left is diffusers' denoising loop with its guidance, and what lies between it and the programs."""


@contextmanager
def observed(pipeline: Any, recorder: Recorder) -> Iterator[None]:
    """Within it, every call of a compiled program and every part of the host's work leaves a span in `recorder`.

    The clocks are on the programs themselves: casts, chunks, padding and tiles around them count as the host's.
    """
    with ExitStack() as stack:
        for name in _programs(pipeline):
            for owner, attribute, label in _places_of_programs(getattr(pipeline, name)):
                program: Any = getattr(owner, attribute)
                several = program if isinstance(program, tuple) else (program,)
                copies = tuple(recorder.counted(name, label, copy) for copy in several)
                stack.enter_context(patch.object(owner, attribute, copies if several is program else copies[0]))
        for name, methods in HOST_PARTS.items():
            for owner_name, method in methods:
                owner = pipeline if owner_name == "pipeline" else getattr(pipeline, owner_name)
                stack.enter_context(patch.object(owner, method, recorder.timed(name, getattr(owner, method))))
        yield


def _programs(pipeline: Any) -> list[str]:
    """The components that a call runs, in that order."""
    return [
        name
        for name, component in COMPONENTS.items()
        if component.per is not Per.NEVER and getattr(pipeline, name, None) is not None
    ]


_INNER = {TiledDecoder: "decode", PromptCache: "program", Followed: "program"}
"""What our class puts around programs -> where it keeps them."""


ONLY = "all"
"""Stands for the name of a program where its component has one only."""


def _places_of_programs(part: Any) -> list[tuple[Any, str, str]]:
    """Where a component keeps what runs on the device, programs or tuples of copies, and the name of each program."""
    owner, attribute = part, "model"
    while type(getattr(owner, attribute)) in _INNER:
        owner = getattr(owner, attribute)
        attribute = _INNER[type(owner)]
    program = getattr(owner, attribute)
    if not isinstance(program, (BatchedProgram, SeveralPrograms)):
        return [(owner, attribute, ONLY)]
    programs = program.programs if isinstance(program, SeveralPrograms) else (program,)
    return [(each, "copies", each.name or ONLY) for each in programs]
