"""Each rule finds its pattern in a small module that has it, and nothing in the components as we build them."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import T5EncoderModel

from optimum_pixart_neuron.aten_graph import trace_graph
from optimum_pixart_neuron.program.hygiene import check_program
from optimum_pixart_neuron.program.program import Collective, TracedProgram, trace_program

from ..e2e.conftest import describe
from ..emulator.programs import Calls

BFLOAT16 = torch.bfloat16
LARGE = torch.ones(600, 600)


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


def weighted(function) -> nn.Module:
    """Applies a function to its weight alone."""
    module = Calls(lambda tensor: function(module.weight) + tensor)
    module.weight = nn.Parameter(torch.ones(1, 1, 4, 4))
    return module


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
    program = trace_program(lambda: weighted(function), (torch.ones(1),), ranks=1)
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


@pytest.mark.seconds
def test_our_components_are_clean(tiny_checkpoint):
    _, components = describe(
        tiny_checkpoint, tensor_parallel_size=1, height=160, width=352, with_vae_encoder=True, vae_parallel="one"
    )
    assert len(components) == 4
    for component in components.values():
        program = trace_program(component.build, component.example_inputs(), ranks=1)
        assert check_program(program, BFLOAT16) == [], component.COMPONENT.name


@pytest.mark.seconds
def test_the_unmodified_modules_are_not(tiny_checkpoint):
    """What the rules are for: every trap of the upstream modules is seen."""
    t5 = T5EncoderModel.from_pretrained(tiny_checkpoint / "text_encoder", torch_dtype=BFLOAT16)
    program = trace_program(lambda: Calls(t5.forward), (torch.ones(2, 300, dtype=torch.int64),), 1)
    assert "index-arithmetic" in {finding.rule for finding in check_program(program, BFLOAT16)}
    vae = AutoencoderKL.from_pretrained(tiny_checkpoint / "vae", torch_dtype=BFLOAT16)
    decode = Calls(lambda latents: vae.decode(latents).sample)
    program = trace_program(lambda: decode, (torch.ones(2, 4, 8, 8, dtype=BFLOAT16),), 1)
    found = {finding.rule for finding in check_program(program, BFLOAT16)}
    assert {"float32-matmul", "low-precision-norm", "index-gather"} <= found
