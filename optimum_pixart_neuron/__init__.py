"""PixArt-Sigma and PixArt-Alpha on AWS Trainium and Inferentia, as a plugin of optimum-neuron.

Importing this package has no side effect. The pipelines need the Neuron SDK; where none is installed, asking for
one activates the emulator.
"""

from importlib import import_module

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "register": "components.registration",
    "register_component": "components.registry",
    "unregister_component": "components.registry",
    "register_mode": "parallel.modes",
    "unregister_mode": "parallel.modes",
}
"""Name -> module that has it, imported when it is asked for."""

_PIPELINES = ("NeuronPixArtAlphaPipeline", "NeuronPixArtSigmaPipeline")

__all__ = [*_PIPELINES, *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name in _PIPELINES:
        from .neuron.sdk import ensure_sdk

        ensure_sdk()
        from .runtime.pixart import PIPELINES

        return PIPELINES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
