"""Arguments by name: one that a function does not take is refused, with the nearest that it takes."""

from collections.abc import Iterable
from difflib import get_close_matches

_MEANT = {
    "seed": "generator=torch.Generator().manual_seed(…)",
    "callback_on_step_end": "callback",
    "callback_on_step_end_tensor_inputs": "callback",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "num_images": "num_images_per_prompt",
    "use_auth_token": "token",
    "repo_id": "model_id",
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
