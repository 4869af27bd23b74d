"""transformers' T5, and the prompts of its comparison with the compiled program."""

from torch import Tensor
from transformers import T5Config, T5EncoderModel

from ...errors import ArtifactError
from ..common.original import Original, Samples
from ..tokenizer.spec import TOKENIZER
from ..tokenizer.tokenizer import Tokenizer

PROMPTS = (
    "",  # one token, the rest padding: the negative prompt of most requests
    "a red fox",
    "an astronaut riding a horse on mars, highly detailed, under two moons",
)
SENTENCE = "A sailing ship in a bottle on the kitchen table, at sunset, as on an old map. "
"""Repeated until it fills a row: the fourth prompt has no padding."""


def _encode(model: T5EncoderModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    return model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _samples(wanted: Samples) -> dict[str, Tensor]:
    """Tokenised prompts, as diffusers' `PixArtSigmaPipeline.encode_prompt` (0.35) makes them.

    Returns:
        `input_ids` and `attention_mask`, (rows, sequence_length) int64.
    """
    folder, length = wanted.folder / TOKENIZER.name, wanted.sizes["sequence_length"]
    tokenizer = Tokenizer.read(folder, None, ArtifactError).load()
    prompts = [*PROMPTS, SENTENCE * length]
    numbers = range(wanted.whole_runs(len(prompts)))
    texts = [prompts[number % 4] if number < 4 else f"{number} {prompts[number % 4]}" for number in numbers]
    return dict(tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"))


ORIGINAL = Original(
    build=lambda config: T5EncoderModel(T5Config.from_dict(config)),
    call=_encode,
    samples=_samples,
    counted="attention_mask",  # the transformer masks what stands on padding
    rows=8,  # 19 GB are read for each call on T5-XXL; the activations of a row are small
)
