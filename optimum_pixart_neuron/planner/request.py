"""What a plan is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..deployment.options import DeploymentOptions
from ..options import Count, Flag, Options


class StepOptions(Options):
    """The length of a run."""

    num_inference_steps: Annotated[Count, Flag(group="Run")] = Field(20, description="Denoising steps of an image.")


class Request(DeploymentOptions, StepOptions):
    """The pictures to make, by the names of the export's options; and the deployments to consider.

    `parallel_mode` and `tensor_parallel_size` are None for all of them.
    """
