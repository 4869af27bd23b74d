"""What a plan is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..components.transformer.spec import STEPS
from ..deployment.options import DeploymentOptions
from ..options import Count, Flag


class Request(DeploymentOptions):
    """The pictures to make, by the names of the export's options; and the deployments to consider.

    `parallel_mode` and `tensor_parallel_size` are None for all of them.
    """

    num_inference_steps: Annotated[Count, Flag(group="Run")] = Field(STEPS, description="Denoising steps of an image.")
