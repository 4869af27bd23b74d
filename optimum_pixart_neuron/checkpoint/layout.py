"""How a PixArt checkpoint is laid out, and the two pipelines that it may be. Imports nothing heavy.

Besides whole pipelines, checkpoints come as a transformer alone: `PixArt-alpha/PixArt-Sigma-XL-2-512-MS`, `-256x256`
and `-2K-MS` hold nothing but `transformer/`, and many fine-tuned ones are the content of that folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..components.transformer.configuration import takes_conditions

INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One of the pipelines of diffusers that are exported; their components are of the same classes.

    Attributes:
        class_name: of diffusers.
        label: for the user.
        tokens: of a prompt, where nobody names a number (diffusers 0.35, `__call__`).
        scaling_factor: of the VAE that it was trained with.
        components_model: what completes a transformer.
        paper: its address.
        has_conditions: whether its transformer may take size and aspect ratio of the image.
    """

    class_name: str
    label: str
    tokens: int
    scaling_factor: float
    components_model: str
    paper: str
    has_conditions: bool = False

    @property
    def neuron_class(self) -> str:
        """The class, of optimum-neuron and of this package, that loads an export."""
        return f"Neuron{self.class_name}"


SIGMA = Kind(
    class_name="PixArtSigmaPipeline",
    label="PixArt-Sigma",
    tokens=300,
    scaling_factor=0.13025,  # diffusers 0.35 `vae/config.json` of SDXL
    # The model cards of the three repositories above and the README of PixArt-Sigma load these components with them.
    # Its model_index.json calls itself a PixArtAlphaPipeline.
    components_model="PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
    paper="https://arxiv.org/abs/2403.04692",
)
ALPHA = Kind(
    class_name="PixArtAlphaPipeline",
    label="PixArt-Alpha",
    tokens=120,
    scaling_factor=0.18215,  # likewise of Stable Diffusion
    components_model="PixArt-alpha/PixArt-XL-2-1024-MS",
    paper="https://arxiv.org/abs/2310.00426",
    has_conditions=True,
)
KINDS: Mapping[str, Kind] = {each.class_name: each for each in (SIGMA, ALPHA)}
"""By diffusers' class."""


def kind_of_parts(denoiser: Mapping[str, Any], decoder: Mapping[str, Any]) -> Kind:
    """What was put together: components of PixArt-Sigma call themselves PixArt-Alpha, so their index does not tell.

    Args:
        denoiser, decoder: their parts' `config.json`.
    """
    return ALPHA if takes_conditions(denoiser) or decoder.get("scaling_factor") == ALPHA.scaling_factor else SIGMA
