"""What `--vae_parallel auto` becomes: bands of every picture on all cores, or pictures of its own for each core.

One picture is always decoded in bands. Of several, a core may have some for itself, which sends nothing, but leaves
cores idle in the last round; which is sooner done, the plan's figures say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..components.registry import IMAGE_DECODER
from ..deployment.decisions import Configurations
from ..deployment.deployment import Deployment, decide
from ..deployment.options import DeploymentOptions
from ..hardware import Instance
from .component_plan import ComponentPlan
from .published import efficiency_of

_BANDS, _WHOLE = "rows", "images"


@dataclass(frozen=True, kw_only=True)
class DecodingChoice:
    """One choice, and why.

    Attributes:
        chosen: a name of `PICTURE_MODES`.
        images: of a run.
        seconds: expected for all of them, by the names that were possible.
    """

    chosen: str
    images: int
    seconds: Mapping[str, float]

    def describe(self) -> str:
        """Half a sentence, for the table of an export."""
        figures = " or ".join(f"{seconds:.3g} s as {name}" for name, seconds in self.seconds.items())
        return f"{self.chosen}: the plan expects {figures} for {self.images} image(s)"


def decide_decoding(
    options: DeploymentOptions, checkpoint: Configurations, instance: Instance
) -> tuple[Deployment, DecodingChoice | None]:
    """`decide`, with `--vae_parallel auto` settled by the plan's figures; None where there is nothing to choose."""
    deployment = decide(options, checkpoint, instance)
    if options.vae_parallel != "auto" or not deployment.mode_of(IMAGE_DECODER).shares_batch:
        return deployment, None
    whole = decide(options.changed(vae_parallel=_WHOLE), checkpoint, instance)
    possible = {_BANDS: deployment}
    if whole.vae_tile == (whole.height, whole.width):  # else it would be cut into tiles, which is not exact
        possible[_WHOLE] = whole
    seconds = {name: _seconds(each, checkpoint) for name, each in possible.items()}
    chosen = _BANDS if deployment.images == 1 else min(seconds, key=lambda name: seconds[name])
    return possible[chosen], DecodingChoice(chosen=chosen, images=deployment.images, seconds=seconds)


def _seconds(deployment: Deployment, checkpoint: Configurations) -> float:
    config = checkpoint.config(IMAGE_DECODER.part.name)
    plan = ComponentPlan.of(IMAGE_DECODER, config, deployment, steps=1)
    return plan.expected_s(efficiency_of(deployment.instance).expected)
