"""Float32 products by oneDNN: the same numbers, and only where the operation is a linear layer in float32."""

import pytest
import torch

from optimum_pixart_neuron.emulator import matmul

ADDMM, MM = torch.ops.aten.addmm.default, torch.ops.aten.mm.default


def _operands(rows: int, width: int, outputs: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, width, generator=generator).to(dtype)
    weight = torch.randn(outputs, width, generator=generator).to(dtype)
    return x, weight, torch.randn(outputs, generator=generator).to(dtype)


@pytest.mark.parametrize(("rows", "width", "outputs"), [(1, 8, 3), (37, 72, 1152), (300, 1152, 64)])
def test_a_linear_layer_in_float32_gives_the_same_numbers(rows, width, outputs):
    x, weight, bias = _operands(rows, width, outputs)
    # Both sum `width` products of unit variance in float32, in another order.
    tolerance = {"rtol": 1e-5, "atol": 1e-6 * width}
    torch.testing.assert_close(matmul.preferred(ADDMM)(bias, x, weight.t()), ADDMM(bias, x, weight.t()), **tolerance)
    torch.testing.assert_close(matmul.preferred(MM)(x, weight.t()), MM(x, weight.t()), **tolerance)


def test_everything_else_stays_with_aten():
    x, weight, bias = _operands(5, 16, 7)
    halves = [tensor.bfloat16() for tensor in (bias, x, weight)]
    preferred = matmul.preferred(ADDMM)
    assert torch.equal(preferred(halves[0], halves[1], halves[2].t()), ADDMM(halves[0], halves[1], halves[2].t()))
    scaled = preferred(bias, x, weight.t(), beta=0.5, alpha=2)
    assert torch.equal(scaled, ADDMM(bias, x, weight.t(), beta=0.5, alpha=2))
    plain = weight.t().contiguous()  # stored input by output: no linear layer
    assert torch.equal(matmul.preferred(MM)(x, plain), MM(x, plain))
    matrix = torch.ones(5, 7)  # a bias for each element
    assert torch.equal(preferred(matrix, x, weight.t()), ADDMM(matrix, x, weight.t()))
    assert matmul.preferred(torch.ops.aten.add.Tensor) is torch.ops.aten.add.Tensor


def test_without_onednn_nothing_is_replaced(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert matmul.preferred(ADDMM) is ADDMM
