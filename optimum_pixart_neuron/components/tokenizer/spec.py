"""The tokenizer of the prompts, copied to the export as it is."""

from __future__ import annotations

from ..component import Part

MODELS = ("spiece.model", "tokenizer.json")
"""Files of which one must be there: the sentencepiece model, which diffusers loads, or the fast tokenizer's."""

TOKENIZER = Part(
    name="tokenizer",
    library="transformers",
    class_name="T5Tokenizer",
    configuration="tokenizer_config.json",
    one_of=MODELS,
)
