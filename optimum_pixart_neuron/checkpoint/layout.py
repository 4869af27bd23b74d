"""How a PixArt-Sigma checkpoint is laid out: its components, their files and classes. Imports nothing heavy.

Besides whole pipelines, checkpoints come as a transformer alone: `PixArt-alpha/PixArt-Sigma-XL-2-512-MS`, `-256x256`
and `-2K-MS` hold nothing but `transformer/`, and many fine-tuned ones are the content of that folder.
"""

from __future__ import annotations

from collections.abc import Iterable

PIPELINE_CLASS = "PixArtSigmaPipeline"
INDEX = "model_index.json"

# What completes a transformer; the model cards of the three repositories above and the README of PixArt-Sigma load
# these components with them. Its model_index.json calls itself a PixArtAlphaPipeline.
COMPONENTS_MODEL = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"

# Folder of each component -> stem of its weight files (transformers, diffusers).
WEIGHT_STEMS = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
# What is copied to the export as it is, with the file that must be there.
COPIED_COMPONENTS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
COMPONENTS = (*WEIGHT_STEMS, *COPIED_COMPONENTS)
TOKENIZER_MODELS = ("spiece.model", "tokenizer.json")
# (library, class) in model_index.json where no index of the checkpoint names them.
COMPONENT_CLASSES = {
    "text_encoder": ("transformers", "T5EncoderModel"),
    "transformer": ("diffusers", "PixArtTransformer2DModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "tokenizer": ("transformers", "T5Tokenizer"),
    "scheduler": ("diffusers", "DPMSolverMultistepScheduler"),
}


def resulting_class(index_class: str | None, *, transformer_given: bool) -> str | None:
    """The pipeline that a checkpoint makes whose model_index.json names this class.

    The components of PixArt-Sigma call themselves PixArt-Alpha, whose components are of the same classes. Its README
    makes a PixArtSigmaPipeline of them with a transformer of the user's choice.
    """
    return PIPELINE_CLASS if transformer_given and index_class == "PixArtAlphaPipeline" else index_class


def is_pixart_transformer(config: dict) -> bool:
    """Whether a `config.json` is a PixArt transformer's.

    The released repositories still say `Transformer2DModel`, which diffusers (0.35, `model_loading_utils.py`,
    `_CLASS_REMAPPING_DICT`) loads as `PixArtTransformer2DModel` for this type of norm.
    """
    name = config.get("_class_name")
    return name == "PixArtTransformer2DModel" or (
        name == "Transformer2DModel" and config.get("norm_type") == "ada_norm_single"
    )


def is_t5(config: dict) -> bool:
    """Whether a `config.json` is a T5's, with a decoder or without."""
    return config.get("model_type") == "t5"


# Components that a folder may be, rather than hold; by its own config.json.
RECOGNIZED = {"transformer": is_pixart_transformer, "text_encoder": is_t5}


def configuration_file(component: str) -> str:
    """The file that says what a component is, inside its folder."""
    return COPIED_COMPONENTS.get(component, "config.json")


def expected_files(components: Iterable[str]) -> list[str]:
    """The files of these components in a checkpoint that is not sharded and of which nothing is known."""
    names = []
    for component in components:
        names.append(f"{component}/{configuration_file(component)}")
        if component in WEIGHT_STEMS:
            names.append(f"{component}/{WEIGHT_STEMS[component]}.safetensors")
        if component == "tokenizer":
            names.append(f"{component}/{TOKENIZER_MODELS[0]}")
    return names
