"""The pipelines that users call, a class for each of diffusers'."""

from collections.abc import Mapping
from typing import Any

from optimum.neuron import NeuronPixArtAlphaPipeline as HostAlpha
from optimum.neuron import NeuronPixArtSigmaPipeline as HostSigma

from ..checkpoint.layout import ALPHA, SIGMA
from ..components.scheduler.scheduler import gives_denoised
from .batching import refuse
from .pipeline import CompiledPipeline


class NeuronPixArtSigmaPipeline(CompiledPipeline, HostSigma):
    """PixArt-Sigma on NeuronCores, called like `diffusers.PixArtSigmaPipeline`.

    Loads the folders that this package and `optimum-cli export neuron` write; the stock
    `optimum.neuron.NeuronPixArtSigmaPipeline` loads them too. Beyond the stock class it takes any number of prompts
    and images, guidance on or off, and requested sizes that are not compiled but binned to what is.
    """

    KIND = SIGMA


class NeuronPixArtAlphaPipeline(CompiledPipeline, HostAlpha):
    """PixArt-Alpha on NeuronCores, called like `diffusers.PixArtAlphaPipeline`; else as the class of PixArt-Sigma.

    What its transformer is told of size and aspect ratio is compiled with each size.
    """

    KIND = ALPHA

    def _check_scheduler(self, scheduler: Any, fitted: Mapping[str, Any]) -> None:
        """diffusers 0.35 takes the denoised sample of a single step, which most schedulers do not give."""
        chosen = next((fitted[name] for name in ("timesteps", "sigmas") if fitted.get(name) is not None), None)
        steps = fitted.get("num_inference_steps") if chosen is None else len(chosen)
        if steps == 1 and not gives_denoised(scheduler):
            expected = "2 or more, or a scheduler that gives the denoised sample, as LCMScheduler"
            refuse("num_inference_steps", expected, f"1 with {type(scheduler).__name__}")


PIPELINES: Mapping[str, type[CompiledPipeline]] = {
    each.__name__: each for each in (NeuronPixArtSigmaPipeline, NeuronPixArtAlphaPipeline)
}
"""By name."""
