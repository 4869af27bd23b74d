"""Faster kernels: the same numbers, and only where they are faster."""

import pytest
import torch

from optimum_pixart_neuron.cpu import products

ADDMM, MM = torch.ops.aten.addmm.default, torch.ops.aten.mm.default


def _operands(rows: int, width: int, outputs: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, width, generator=generator).to(dtype)
    weight = torch.randn(outputs, width, generator=generator).to(dtype)
    return x, weight, torch.randn(outputs, generator=generator).to(dtype)


@pytest.mark.seconds
@pytest.mark.parametrize(("rows", "width", "outputs"), [(1, 8, 3), (37, 72, 1152), (300, 1152, 64)])
def test_a_linear_layer_in_float32_gives_the_same_numbers(rows, width, outputs):
    x, weight, bias = _operands(rows, width, outputs)
    # Both sum `width` products of unit variance in float32, in another order.
    tolerance = {"rtol": 1e-5, "atol": 1e-6 * width}
    torch.testing.assert_close(products.preferred(ADDMM)(bias, x, weight.t()), ADDMM(bias, x, weight.t()), **tolerance)
    torch.testing.assert_close(products.preferred(MM)(x, weight.t()), MM(x, weight.t()), **tolerance)


def test_everything_else_stays_with_aten():
    x, weight, bias = _operands(5, 16, 7)
    preferred = products.preferred(ADDMM)
    scaled = preferred(bias, x, weight.t(), beta=0.5, alpha=2)
    assert torch.equal(scaled, ADDMM(bias, x, weight.t(), beta=0.5, alpha=2))
    plain = weight.t().contiguous()  # stored input by output: no linear layer
    assert torch.equal(products.preferred(MM)(x, plain), MM(x, plain))
    matrix = torch.ones(5, 7)  # a bias for each element
    assert torch.equal(preferred(matrix, x, weight.t()), ADDMM(matrix, x, weight.t()))
    assert products.preferred(torch.ops.aten.add.Tensor) is torch.ops.aten.add.Tensor


@pytest.mark.seconds
def test_without_onednn_nothing_is_replaced(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, weight, bias = _operands(37, 72, 1152)
    assert torch.equal(products.preferred(ADDMM)(bias, x, weight.t()), ADDMM(bias, x, weight.t()))


@pytest.fixture
def slow(monkeypatch):
    """A processor on which PyTorch has no kernels for bfloat16."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)


def _in_bfloat16(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]


CASES = {
    "mm": (MM, _in_bfloat16((5, 64), (64, 7))),
    "addmm": (ADDMM, _in_bfloat16(7, (5, 64), (64, 7))),
    "bmm": (torch.ops.aten.bmm.default, _in_bfloat16((2, 5, 64), (2, 64, 7))),
    "convolution": (
        torch.ops.aten.convolution.default,
        [*_in_bfloat16((2, 8, 9, 9), (4, 8, 3, 3), 4), [1, 1], [1, 1], [1, 1], False, [0, 0], 1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_has_bfloat16_factors_and_is_rounded_once(slow, case):
    operation, given = CASES[case]
    wide = [each.double() if isinstance(each, torch.Tensor) else each for each in given]
    found = products.preferred(operation)(*given)
    with products.FasterBfloat16():
        assert torch.equal(operation(*given), found)
    assert found.dtype == torch.bfloat16
    # Half a unit in the last of eight bits, and what sums of 64 products in float32 add to it.
    torch.testing.assert_close(found.double(), operation(*wide), rtol=2**-8 + 1e-5, atol=1e-5)


def test_what_the_faster_ones_are_not_for_stays(slow):
    x, weight, _ = _operands(5, 16, 7)
    with products.FasterBfloat16():
        assert torch.equal(MM(x, weight.t()), x @ weight.t())
        assert torch.add(x.bfloat16(), 1).dtype == torch.bfloat16


def test_a_processor_with_kernels_for_bfloat16_keeps_them(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert products.preferred(torch.ops.aten.bmm.default) is torch.ops.aten.bmm.default
    x, weight, bias = _operands(5, 16, 7, torch.bfloat16)
    assert torch.equal(products.preferred(ADDMM)(bias, x, weight.t()), ADDMM(bias, x, weight.t()))
