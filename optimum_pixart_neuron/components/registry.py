"""Every component of a pipeline, in the order in which a call runs them and an export compiles them.

    from optimum_pixart_neuron import register_component

    register_component(MyComponent())

is all that a component beyond PixArt-Sigma's own needs: exports compile it, plans, validations and benchmarks have its
row, and `NeuronPixArtSigmaPipeline` runs it after the component that it `follows`.
"""

from __future__ import annotations

from .component import Component, Part, Per
from .scheduler.spec import SCHEDULER
from .text_encoder.spec import TEXT_ENCODER
from .tokenizer.spec import TOKENIZER
from .transformer.spec import TRANSFORMER
from .vae.spec import VAE_DECODER, VAE_ENCODER

PROMPT_ENCODER = TEXT_ENCODER
"""What makes embeddings of prompts."""
DENOISER = TRANSFORMER
"""What predicts the noise of latents; the mode of a pipeline is how it runs."""
IMAGE_DECODER = VAE_DECODER
"""What makes images of latents."""

COMPONENTS: dict[str, Component] = {}
"""By name; `register_component` adds to it."""
PARTS: dict[str, Part] = {}
"""Of a checkpoint, by name: those that components are made from, and those that are copied."""

_COPIED = (TOKENIZER, SCHEDULER)


def register_component(component: Component) -> None:
    """Add a component to every export, plan, validation, benchmark and pipeline of this process.

    Raises:
        ValueError: there is one of this name, another part of the same name, or the pipeline has no place for it.
    """
    name, part = component.name, component.part
    if name in COMPONENTS:
        raise ValueError(f"a component {name!r} is registered")
    if PARTS.get(part.name, part) != part:
        raise ValueError(f"{name}: the registered part {part.name!r} of a checkpoint is another one")
    _check_place(component)
    COMPONENTS[name] = component
    _list_parts()


def _check_place(component: Component) -> None:
    if component.follows is None:
        if component.host_config is None and component.per is not Per.NEVER:
            raise ValueError(f"{component.name}: nothing runs it; name the component that it follows")
        return
    followed = COMPONENTS.get(component.follows)
    if followed is None:
        raise ValueError(f"{component.name}: there is no component {component.follows!r} to follow")
    known = {given.name for given in followed.inputs}
    strange = [given.name for given in component.inputs[1:] if given.name not in known]
    if strange:
        raise ValueError(f"{component.name}: its input {strange[0]!r} is none of {followed.name}, which it follows")


def added_components() -> list[Component]:
    """Those that are not of this package, as another process would have to register them."""
    return [component for name, component in COMPONENTS.items() if name not in _OWN]


def unregister_component(name: str) -> None:
    """Take a component out again, and its part of the checkpoint if no other is made from it; KeyError without one."""
    del COMPONENTS[name]
    _list_parts()


def _list_parts() -> None:
    parts = [component.part for component in COMPONENTS.values()]
    PARTS.clear()
    PARTS.update({part.name: part for part in (*parts, *_COPIED)})


for _component in (TEXT_ENCODER, TRANSFORMER, VAE_DECODER, VAE_ENCODER):
    register_component(_component)
_OWN = frozenset(COMPONENTS)
