"""Each rule finds its pattern in a small module that has it, and nothing in the components as we build them."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import T5Config, T5EncoderModel

from optimum_pixart_neuron.aten_graph import trace_graph
from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder
from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder, PixArtVaeEncoder
from optimum_pixart_neuron.program.hygiene import check_program
from optimum_pixart_neuron.program.program import Collective, TracedProgram, trace_program

BFLOAT16 = torch.bfloat16
LARGE = torch.ones(600, 600)


class Calls(nn.Module):
    """A module that applies one function to its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensor):
        return self.function(tensor)


def rules(function, *shape: int, dtype: torch.dtype = BFLOAT16) -> set[str]:
    program = trace_program(lambda: Calls(function), (torch.ones(shape, dtype=dtype),), ranks=1)
    return {finding.rule for finding in check_program(program, BFLOAT16)}


@pytest.mark.parametrize(
    ("rule", "function"),
    [
        ("float64", lambda x: x.double() + 1),
        ("float32-matmul", lambda x: x.float() @ x.float().t()),
        ("float32-matmul", lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None])),
        ("low-precision-norm", lambda x: F.layer_norm(x, (8,))),
        ("low-precision-norm", lambda x: F.group_norm(x[None], 2)),
        ("low-precision-norm", lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))),
        ("large-constant", lambda x: x.sum() + LARGE),
        ("index-arithmetic", lambda x: x + (torch.arange(8)[None] - torch.arange(8)[:, None]).clamp(0)),
        ("index-gather", lambda x: F.interpolate(x[None, None], scale_factor=2.0, mode="nearest")),
        ("index-gather", lambda x: x[:, torch.arange(8) * 1]),
        ("int64", lambda x: x + x.long() @ x.long()),
        ("int64", lambda x: x + x.long().pow(2)),
        ("int64", lambda x: x + x.long().scatter(0, x.long(), 1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_rule_finds_its_pattern(rule, function):
    assert rule in rules(function, 8, 8)


def test_clean_patterns():
    assert rules(lambda x: F.layer_norm(x.float(), (8,)).to(x.dtype) @ x, 8, 8) == set()
    assert rules(lambda x: (x.float() @ x.float().t()), 8, 8, dtype=torch.float32) == {"float32-matmul"}


def test_integers_of_32_bits_and_other_operations_on_64_are_no_finding():
    assert "int64" not in rules(lambda x: x + x.int() @ x.int(), 8, 8)
    assert "int64" not in rules(lambda x: x + (x.long() != 0), 8, 8)


def test_a_collective_of_64_bit_integers():
    traced = trace_graph(nn.Identity(), (torch.ones(2, dtype=BFLOAT16),))
    collective = Collective(kind="all-gather", shape=(2,), dtype=torch.int64, groups=((0, 1),))
    findings = check_program(TracedProgram(graph=traced, collectives=(collective,)), BFLOAT16)
    assert [str(finding) for finding in findings] == ["int64: all-gather [2]"]


class Weighted(nn.Module):
    """Applies a function to its weight alone."""

    def __init__(self, function) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(1, 1, 4, 4)), function

    def forward(self, tensor):
        return self.function(self.weight) + tensor


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda weight: F.unfold(weight, 2).sum(), ["unlowered: im2col -> [1, 4, 9] float32"]),
        (lambda weight: torch.histc(weight).sum(), ["unlowered: histc -> [100] float32"]),
        (lambda weight: weight.t() if weight.dim() < 3 else weight.mT.softmax(-1).sum(), []),
        (lambda weight: F.group_norm(weight, 1).sum() + F.conv2d(weight, weight).sum(), []),
    ],
)
def test_an_operation_on_a_weight_that_is_not_lowered(function, found):
    program = trace_program(lambda: Weighted(function), (torch.ones(1),), ranks=1)
    findings = check_program(program, torch.float32)
    assert [str(finding) for finding in findings if finding.rule == "unlowered"] == found
    on_an_input = trace_program(lambda: Calls(function), (torch.ones(1, 1, 4, 4),), ranks=1)
    assert not [finding for finding in check_program(on_an_input, torch.float32) if finding.rule == "unlowered"]


def test_float32_collective():
    traced = trace_graph(nn.Identity(), (torch.ones(2, dtype=BFLOAT16),))
    statistics, activations = (
        Collective(kind="all-reduce", shape=shape, dtype=torch.float32, groups=((0, 1),))
        for shape in ((2, 4), (64, 128))
    )
    findings = check_program(TracedProgram(graph=traced, collectives=(statistics, activations)), BFLOAT16)
    assert [str(finding) for finding in findings] == ["float32-collective: all-reduce [64, 128]"]


@pytest.mark.parametrize(
    ("kind", "sent"), [("all-reduce", 96), ("all-gather", 192), ("reduce-scatter", 48), ("all-to-all", 48)]
)
def test_bytes_sent_by_the_ring(kind, sent):
    collective = Collective(kind=kind, shape=(4, 8), dtype=BFLOAT16, groups=((0, 1, 2, 3),))
    assert collective.bytes_sent == sent


T5 = T5Config(d_model=32, d_kv=8, num_heads=4, d_ff=64, num_layers=2, vocab_size=100, feed_forward_proj="gated-gelu")
VAE = {
    "block_out_channels": (8, 8, 16, 16),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 4,
}
TRANSFORMER = {"caption_channels": 24, "sample_size": 32, "num_layers": 2, "use_additional_conditions": False}


def transformer_inputs(height: int, width: int) -> tuple[torch.Tensor, ...]:
    mask = torch.ones(2, 20, dtype=torch.int64)
    return (torch.ones(2, 4, height, width), torch.ones(2, 20, 24), torch.ones(2), mask)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (lambda: PixArtTextEncoder(T5, 300, BFLOAT16), (torch.ones(2, 300, dtype=torch.int64),)),
        (
            lambda: PixArtTransformer.build(TRANSFORMER, latent_height=20, latent_width=44, dtype=BFLOAT16),
            transformer_inputs(20, 44),
        ),
        (lambda: PixArtVaeDecoder(VAE, BFLOAT16), (torch.ones(2, 4, 32, 32),)),
        (lambda: PixArtVaeEncoder(VAE, BFLOAT16), (torch.ones(2, 3, 64, 64),)),
    ],
    ids=["text_encoder", "transformer", "vae_decoder", "vae_encoder"],
)
def test_our_components_are_clean(build, inputs):
    assert check_program(trace_program(build, inputs, ranks=1), BFLOAT16) == []


@pytest.mark.seconds
def test_the_unmodified_modules_are_not():
    """What the rules are for: every trap of the upstream modules is seen."""
    t5 = Calls(T5EncoderModel(T5).to(BFLOAT16).eval().forward)
    found = {
        f.rule for f in check_program(trace_program(lambda: t5, (torch.ones(2, 300, dtype=torch.int64),), 1), BFLOAT16)
    }
    assert "index-arithmetic" in found
    vae = AutoencoderKL(**VAE).to(BFLOAT16).eval()
    decode = Calls(lambda latents: vae.decode(latents).sample)
    program = trace_program(lambda: decode, (torch.ones(2, 4, 8, 8, dtype=BFLOAT16),), 1)
    found = {finding.rule for finding in check_program(program, BFLOAT16)}
    assert {"float32-matmul", "low-precision-norm", "index-gather"} <= found
