"""A real T5 tokenizer, trained on the spot from image prompts."""

from __future__ import annotations

import io
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import T5Tokenizer

VOCABULARY = 384
"""Pieces asked for; sentencepiece may end with fewer from so small a text."""
MAX_LENGTH = 512
"""`model_max_length` of the released tokenizer."""

_SUBJECTS = (
    "an astronaut riding a green horse, a small cactus with a happy face in the Sahara desert, two cats sleeping on a"
    " velvet sofa, an old lighthouse above the foggy coast, a quiet village under snow-covered mountains, the portrait"
    " of a queen with jewels and flowers, a red fox jumping over the lazy dog, a robot playing the xylophone for"
    " children, a bowl of ramen next to a wooden spoon, a sailing ship in a bottle, a steam train crossing a stone"
    " bridge at night, a glass greenhouse full of tropical plants"
).split(", ")
_PLACES = (
    "on mars, in the rain, at sunset, by the sea, in a busy Tokyo street, inside a cathedral, on the kitchen table,"
    " under a starry sky"
).split(", ")
_STYLES = (
    "a photo of {}, 35mm, f/1.8, sharp focus",
    "oil painting of {} by a Dutch master",
    "{}; watercolor, soft light, high detail, 4k",
    "pixel art: {}, vibrant colors",
    "{}. Cinematic lighting, award-winning photograph (50 mm)!",
    "low quality, blurry, worst picture of {}?",
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"()[]/+-*&%$#@_=<>"


def build_tokenizer() -> T5Tokenizer:
    """Train the tokenizer; the same at every call. Pad is 0, end of sentence 1, unknown 2, as in T5."""
    import sentencepiece
    from transformers import T5Tokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as scratch:
        # Once this file is gone, saving the tokenizer writes the model it holds, byte for byte the same.
        vocab_file = Path(scratch, "spiece.model")
        vocab_file.write_bytes(model.getvalue())
        tokenizer = T5Tokenizer(str(vocab_file), legacy=True, model_max_length=MAX_LENGTH)
    return tokenizer


def _corpus() -> list[str]:
    scenes = [f"{subject} {place}" for subject, place in itertools.product(_SUBJECTS, _PLACES)]
    return [style.format(scene) for style, scene in itertools.product(_STYLES, scenes)] + [_ALPHABET] * 4
