"""The small checkpoint: complete, reproducible, and not so degenerate that a comparison with it proves nothing."""

import json

import pytest
import torch

from tests.hub.exports import content
from tests.tiny import build_tiny_checkpoint


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    from diffusers import PixArtSigmaPipeline

    pipeline = PixArtSigmaPipeline.from_pretrained(tiny_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def test_it_has_all_components_and_makes_a_picture(tiny_checkpoint, pipeline):
    index = json.loads((tiny_checkpoint / "model_index.json").read_text())
    assert index["_class_name"] == "PixArtSigmaPipeline"
    parts = {name for name in index if not name.startswith("_")}
    assert parts == {"tokenizer", "text_encoder", "transformer", "vae", "scheduler"}
    image = pipeline("a cat", num_inference_steps=2).images[0]
    assert image.size == (256, 256)
    assert all(low < high for low, high in image.getextrema())


def test_the_same_arguments_give_the_same_bytes_and_leave_the_random_state(tiny_checkpoint, tmp_path):
    state = torch.random.get_rng_state()
    again = build_tiny_checkpoint(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert content(again) == content(tiny_checkpoint)


def test_the_tokenizer_is_a_t5_tokenizer(pipeline):
    tokenizer = pipeline.tokenizer
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    ids = tokenizer("a photo of an astronaut, 35mm", padding="max_length", max_length=64).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a photo of an astronaut, 35mm"
    assert ids.count(1) == 1 and ids[ids.index(1) + 1 :] == [0] * (63 - ids.index(1))
    assert tokenizer("雪").input_ids[-2] == tokenizer.unk_token_id
    assert len(tokenizer) <= pipeline.text_encoder.config.vocab_size


def test_no_bias_or_norm_is_trivial(pipeline):
    for component in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        for name, parameter in component.named_parameters():
            assert parameter.dim() != 1 or parameter.numel() == 1 or parameter.std() > 0.02, name


@torch.no_grad()
def test_prompt_mask_and_timestep_change_the_outputs(pipeline):
    """Limits are about half of what was measured, and far above every tolerance of a parity test."""
    tokens = pipeline.tokenizer(["a cat", "two dogs"], padding="max_length", max_length=32, return_tensors="pt")
    mask = tokens.attention_mask
    encode = pipeline.text_encoder
    prompts = encode(tokens.input_ids, mask).last_hidden_state
    assert _distance(prompts[0], prompts[1]) > 0.5
    assert _distance(encode(tokens.input_ids).last_hidden_state[:, :3], prompts[:, :3]) > 0.3

    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)

    def predict(timestep, mask=mask):
        return pipeline.transformer(
            latents,
            encoder_hidden_states=prompts,
            encoder_attention_mask=mask,
            timestep=torch.tensor([timestep, timestep]),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample

    noise = predict(999.0)
    assert 0.2 < noise.std() < 2.0
    assert _distance(noise[0], noise[1]) > 0.4
    assert _distance(predict(500.0), noise) > 0.3
    assert _distance(predict(1000.0), noise) > 0.05, "bf16 rounds 999 to 1000: the mistake must show"
    assert _distance(predict(999.0, torch.ones_like(mask)), noise) > 0.2

    picture = pipeline.vae.decode(latents[:1] / pipeline.vae.config.scaling_factor).sample
    assert 0.2 < picture.std() < 1.0
