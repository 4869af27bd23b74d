"""The tokenizer of the prompts, loaded and copied to the export."""

from __future__ import annotations

from ..component import Part
from .tokenizer import CONFIGURATION, SLOW_CLASS, Tokenizer

TOKENIZER = Part(
    name="tokenizer",
    library="transformers",
    class_name=SLOW_CLASS,
    configuration=CONFIGURATION,
    copied=Tokenizer,
)
