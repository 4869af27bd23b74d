"""PixArt-Sigma on AWS Trainium and Inferentia, as a plugin of optimum-neuron.

Importing this package has no side effect. `NeuronPixArtSigmaPipeline` needs the Neuron SDK; where none is installed,
asking for it activates the emulator.
"""

__all__ = ["NeuronPixArtSigmaPipeline", "register"]


def __getattr__(name: str):
    if name == "register":
        from .components.registration import register

        return register
    if name == "NeuronPixArtSigmaPipeline":
        from .neuron.sdk import ensure_sdk

        ensure_sdk()
        from .runtime.pipeline import NeuronPixArtSigmaPipeline

        return NeuronPixArtSigmaPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
