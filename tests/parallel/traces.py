"""Programs of the transformer that are traced for one split, and not executed."""

import torch

from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from optimum_pixart_neuron.parallel.apply import materialize
from optimum_pixart_neuron.parallel.split import Split
from optimum_pixart_neuron.program.program import TracedProgram, trace_program

XL_2 = {"caption_channels": 4096, "sample_size": 128, "use_additional_conditions": False}


def on_meta(config: dict, dtype: torch.dtype) -> PixArtTransformer:
    """A transformer without weights, for latents of the size that it was trained for."""
    size = config["sample_size"]
    with torch.device("meta"):
        return PixArtTransformer.build(config, latent_height=size, latent_width=size, dtype=dtype)


def trace(split: Split, config: dict, *, tokens: int, dtype: torch.dtype) -> TracedProgram:
    """The program of a guidance pair, with so many tokens of text."""
    ensure_sdk()

    def build():
        model = on_meta(config, dtype)
        with torch.device("meta"):
            split.apply(model, dtype)
        materialize(model)
        return model

    size, channels, mask = config["sample_size"], config["caption_channels"], torch.ones(2, tokens, dtype=torch.int64)
    inputs = (torch.empty(2, 4, size, size), torch.empty(2, tokens, channels), torch.empty(2), mask)
    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(split.ranks)):
        return trace_program(build, inputs, split.ranks)
