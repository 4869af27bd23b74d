"""How a PixArt-Sigma checkpoint is laid out. Imports nothing heavy.

Besides whole pipelines, checkpoints come as a transformer alone: `PixArt-alpha/PixArt-Sigma-XL-2-512-MS`, `-256x256`
and `-2K-MS` hold nothing but `transformer/`, and many fine-tuned ones are the content of that folder.
"""

from __future__ import annotations

PIPELINE_CLASS = "PixArtSigmaPipeline"
INDEX = "model_index.json"

# What completes a transformer; the model cards of the three repositories above and the README of PixArt-Sigma load
# these components with them. Its model_index.json calls itself a PixArtAlphaPipeline.
COMPONENTS_MODEL = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"


def resulting_class(index_class: str | None, *, transformer_given: bool) -> str | None:
    """The pipeline that a checkpoint makes whose model_index.json names this class.

    The components of PixArt-Sigma call themselves PixArt-Alpha, whose components are of the same classes. Its README
    makes a PixArtSigmaPipeline of them with a transformer of the user's choice.
    """
    return PIPELINE_CLASS if transformer_given and index_class == "PixArtAlphaPipeline" else index_class
