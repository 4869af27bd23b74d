"""Arguments by name: one that a function does not take is refused, with the nearest that it takes."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any

from diffusers import SchedulerMixin

from ..errors import InvalidArgument

_MEANT = {
    "seed": "generator=torch.Generator().manual_seed(…)",
    "callback_on_step_end": "callback",
    "callback_on_step_end_tensor_inputs": "callback",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "num_images": "num_images_per_prompt",
    "use_auth_token": "token",
}
"""What a name of other pipelines is called here, where the spelling does not tell."""


def unknown_arguments(unknown: Iterable[str], known: Iterable[str], *, of: str) -> str:
    """One line about arguments that `of` does not take, each with the nearest of those that it does."""
    known = list(known)
    return "; ".join(f"{name}: no argument of {of}{_nearest(name, known)}" for name in unknown)


def _nearest(name: str, known: list[str]) -> str:
    meant = _MEANT.get(name, "")
    if meant.partition("=")[0] not in known:
        meant = next(iter(get_close_matches(name, known, n=1)), "")
    return f"; did you mean {meant}?" if meant else ""


def named(function: Callable[..., Any]) -> list[str]:
    """The arguments that a function takes by name."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def refuse_options(options: Mapping[str, Any], model_id: str | Path, function: Callable[..., Any]) -> None:
    """Refuse what `from_pretrained` has no argument for where nothing is compiled.

    Args:
        options: everything beyond its own arguments.

    Raises:
        InvalidArgument: one line about each.
    """
    options = {name: value for name, value in options.items() if name != "subfolder" or value}
    if not options:
        return
    from ..export.options import ExportOptions  # late: only a refusal needs it

    if "subfolder" in options:
        whole = Path(model_id, options["subfolder"]).as_posix()
        raise InvalidArgument(
            f"subfolder={options['subfolder']!r}: a compiled pipeline is a whole folder or repository; load {whole},"
            " a folder of this machine"
        )
    exporter = [name for name in options if name in ExportOptions.model_fields]
    if exporter:
        raise InvalidArgument(
            f"{', '.join(exporter)}: decided when the pipeline was compiled; leave it out, or compile a checkpoint"
            " with export=True"
        )
    known = [*named(function), *ExportOptions.model_fields]
    raise InvalidArgument(unknown_arguments(options, known, of="from_pretrained"))


def check_place(name: str, place: Any, expected: str) -> None:
    """Refuse, by InvalidArgument, what is no path or text; an empty one would be the current folder."""
    if not isinstance(place, (str, os.PathLike)) or not os.fspath(place):
        raise InvalidArgument(f"{name}: expected {expected}, given {place!r}")


def check_scheduler(scheduler: Any) -> None:
    """Refuse, by InvalidArgument, what cannot be called as a scheduler, such as a class of one, or None."""
    if isinstance(scheduler, type) or not callable(getattr(scheduler, "set_timesteps", None)):
        raise _no_scheduler(scheduler)


def _no_scheduler(given: Any) -> InvalidArgument:
    shown = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    return InvalidArgument(f"scheduler: expected a scheduler of diffusers, given {shown}")


def check_own_arguments(*, scheduler: Any, prompt_cache: Any) -> None:
    """Refuse values, by InvalidArgument, before anything is compiled or downloaded."""
    if scheduler is not None and not isinstance(scheduler, SchedulerMixin):
        raise _no_scheduler(scheduler)
    if isinstance(prompt_cache, bool) or not isinstance(prompt_cache, Integral) or prompt_cache < 0:
        raise InvalidArgument(f"prompt_cache: expected a whole number from 0 on, given {prompt_cache!r}")
