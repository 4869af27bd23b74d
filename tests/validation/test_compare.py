"""Verdicts: our modules pass in both precisions, and each thing that can go wrong in a compiled component misses.

The modules are the ones that are compiled, run on one core without compilation; what is broken is broken in them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from transformers import T5EncoderModel

from optimum_pixart_neuron.artifact.manifest_records import ValidationRecord
from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint
from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder
from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.validation.compare import Difference, limit_of, near_one
from optimum_pixart_neuron.validation.table import log_table

from ..e2e.conftest import describe
from .conftest import SMALL, run_original

pytestmark = pytest.mark.seconds


@dataclass(frozen=True, kw_only=True)
class Case:
    """One component: its inputs, the original's outputs, and how far the original in bfloat16 is from them."""

    given: dict[str, Tensor]
    expected: Tensor
    counted: Tensor | None
    yardstick: Difference

    def verdict(self, result: Tensor, precision: str) -> bool:
        found = Difference.between(result.float(), self.expected, self.counted)
        return limit_of(precision, self.yardstick, None).holds(found)


@pytest.fixture(scope="module")
def cases(checkpoint, given) -> dict[str, Case]:
    cases = {}
    for name in ("text_encoder", "transformer", "vae_decoder"):
        expected, rounded = (
            run_original(checkpoint, name, given[name], dtype) for dtype in (torch.float32, torch.bfloat16)
        )
        counted = given[name]["attention_mask"] if name == "text_encoder" else None
        yardstick = Difference.between(rounded, expected, counted)
        cases[name] = Case(given=given[name], expected=expected, counted=counted, yardstick=yardstick)
    return cases


def build(name: str, checkpoint: PixArtCheckpoint, dtype: torch.dtype) -> nn.Module:
    """Our module of one component with the checkpoint's weights."""
    folder = checkpoint.sources["tokenizer"].folder.parent
    _, components = describe(folder, torch_dtype=dtype, attention="math", tensor_parallel_size=1, **SMALL)
    return components[name].build_filled(with_checkpoint=True)


def run(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    if isinstance(model, PixArtTextEncoder):
        return model(given["input_ids"])["last_hidden_state"]
    output = model(*given.values())
    return output["sample"] if isinstance(output, dict) else output[0]


def without_text_mask(model: PixArtTextEncoder, given: dict[str, Tensor]) -> Tensor:
    ids = given["input_ids"]
    return T5EncoderModel.forward(model, input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def heads_of_the_next_rank(model: PixArtTextEncoder, given: dict[str, Tensor]) -> Tensor:
    """The position bias of a shard in another rank's place, of two."""
    model.position_bias.value.data = model.position_bias.value.roll(4, dims=0)
    return run(model, given)


def halves_swapped(model: nn.Module, given: dict[str, Tensor], key: str) -> Tensor:
    """Two shards of one weight in each other's place."""
    weight = model.get_parameter(key)
    weight.data = torch.cat(weight.chunk(2)[::-1])
    return run(model, given)


def changed(model: nn.Module, given: dict[str, Tensor], **change: Callable[[Tensor], Tensor]) -> Tensor:
    """With other inputs than the original got."""
    return run(model, {name: change.get(name, lambda tensor: tensor)(tensor) for name, tensor in given.items()})


def attention_scaled(model: PixArtTransformer, given: dict[str, Tensor], factor: float) -> Tensor:
    for block in model.transformer_blocks:
        block.attn1.to_q.weight.data *= factor
        block.attn1.to_q.bias.data *= factor
    return run(model, given)


BREAKAGES = {
    ("text_encoder", "no mask"): without_text_mask,
    ("text_encoder", "bias of another rank"): heads_of_the_next_rank,
    ("text_encoder", "swapped shards"): partial(halves_swapped, key="encoder.block.1.layer.0.SelfAttention.v.weight"),
    ("transformer", "bfloat16 timestep"): partial(changed, timestep=lambda t: t.bfloat16().float()),
    ("transformer", "one timestep for all"): partial(changed, timestep=lambda t: t[:1].expand_as(t)),
    ("transformer", "no mask"): partial(changed, encoder_attention_mask=torch.ones_like),
    ("transformer", "guidance pair swapped"): partial(
        changed, encoder_hidden_states=lambda text: text.view(-1, 2, *text.shape[1:]).flip(1).view(text.shape)
    ),
    ("transformer", "swapped shards"): partial(halves_swapped, key="transformer_blocks.1.attn1.to_v.weight"),
    ("vae_decoder", "swapped shards"): partial(halves_swapped, key="decoder.mid_block.resnets.0.conv1.weight"),
}
# Twice the rounding of bfloat16 or less: only float32 can tell.
SUBTLE = {
    ("transformer", "scale of attention"): partial(attention_scaled, factor=1.01),
    ("vae_decoder", "scaled latents"): partial(changed, latent_sample=lambda latents: 1.01 * latents),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["text_encoder", "transformer", "vae_decoder"])
@torch.no_grad()
def test_our_modules_pass_and_other_weights_do_not(cases, checkpoint, other_checkpoint, name, precision):
    dtype = getattr(torch, precision)
    assert cases[name].verdict(run(build(name, checkpoint, dtype), cases[name].given), precision)
    assert not cases[name].verdict(run(build(name, other_checkpoint, dtype), cases[name].given), precision)


@pytest.mark.parametrize(("name", "what"), BREAKAGES, ids=lambda part: part.replace(" ", "-"))
@torch.no_grad()
def test_what_is_broken_misses(cases, checkpoint, name, what):
    """By the limit of bfloat16, which is the wider one."""
    model = build(name, checkpoint, torch.bfloat16)
    assert not cases[name].verdict(BREAKAGES[name, what](model, cases[name].given), "bfloat16")


@pytest.mark.parametrize(("name", "what"), SUBTLE, ids=lambda part: part.replace(" ", "-"))
@torch.no_grad()
def test_in_float32_little_is_enough(cases, checkpoint, name, what):
    model = build(name, checkpoint, torch.float32)
    assert not cases[name].verdict(SUBTLE[name, what](model, cases[name].given), "float32")


def test_one_bad_row_is_a_miss(cases):
    """Its numbers are not averaged away by good rows."""
    case = cases["vae_decoder"]
    result = case.expected.clone()
    result[1, :, :8, :8] = 0
    assert case.verdict(case.expected, "float32")
    assert not case.verdict(result, "bfloat16")


def test_padding_does_not_count_but_every_token_does(cases):
    case = cases["text_encoder"]
    padding = case.expected + 100 * (1 - case.counted[..., None])
    assert case.verdict(padding, "float32")
    first = case.expected.clone()
    first[0, 0] = 0  # the only token of the empty prompt
    assert not case.verdict(first, "bfloat16")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_a_miss(cases, value):
    case = cases["transformer"]
    result = case.expected.clone()
    result[2, 3, 4, 5] = value
    assert not case.verdict(result, "bfloat16")
    found = Difference.between(result, case.expected)
    assert not limit_of("bfloat16", None, 1e30).holds(found)


def test_atol_takes_the_place_of_every_limit():
    found = Difference(error=0.5, distance=0.3, psnr=10.0)
    yardstick = Difference(error=0.1, distance=1e-4, psnr=50.0)
    assert not limit_of("bfloat16", yardstick, None).holds(found)
    limit = limit_of("bfloat16", None, 0.5)
    assert limit.holds(found) and limit.words == "max error 0.5, as given"
    assert not limit_of("bfloat16", None, 0.49).holds(found)


def test_a_checkpoint_that_bfloat16_spoils_is_a_miss_in_it():
    """Else the yardstick would let anything pass."""
    spoilt = Difference(error=4.0, distance=0.4, psnr=20.0)
    assert not limit_of("bfloat16", spoilt, None).holds(spoilt)


def test_numbers_of_a_known_difference():
    original = torch.tensor([[3.0, 4.0], [0.0, 8.0]])
    found = Difference.between(torch.tensor([[3.0, 4.0], [8.0, 8.0]]), original)
    assert found.error == 8
    assert found.distance == pytest.approx(1 - math.sqrt(0.5))
    assert found.psnr == pytest.approx(10 * math.log10(64 / 32))
    assert Difference.between(original, original) == Difference(error=0, distance=0, psnr=math.inf)
    assert [near_one(cosine) for cosine in (1.0, 1 - 2e-7, 0.99, -0.5)] == ["1", "1 - 2e-07", "0.9900", "-0.5000"]


def test_the_table_fits_80_columns_whole(caplog):
    limit = "max error 0.14, cosine 1 - 3e-04: 3 x the original in bfloat16"
    kept = {"max_error": 0.0423, "cosine": 0.99997, "psnr": 62.34, "limit": limit, "passed": True}
    missed = {"max_error": 1.5, "cosine": 0.98, "psnr": 42, "limit": "max error 0.05, as given", "passed": False}
    records = [ValidationRecord(component="text_encoder", **kept), ValidationRecord(component="vae_decoder", **missed)]
    with caplog.at_level("INFO"):
        log_table(records)
    assert max(map(len, caplog.messages[-1].splitlines())) <= 80 and "…" not in caplog.text
    for figure in ("0.042", "1 - 3e-05", "62.3 dB", "0.14, 1 - 3e-04", "MISS"):
        assert figure in caplog.text
