"""One compiled program: parity with eager, static shapes, compile errors, serialisation."""

import pytest
import torch
from torch import nn

from optimum_pixart_neuron.emulator import program as program_module
from optimum_pixart_neuron.emulator.program import Program
from tests.emulator.programs import Calls, total


class Mixed(nn.Module):
    """Baked buffer, views, an in-place operation on an input, several dtypes, a nested output."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("baked", torch.arange(8.0), persistent=False)

    def forward(self, x, ids):
        y = self.linear(x) + self.baked + torch.tensor([0.5] * 8)
        first, second = nn.functional.gelu(y).to(torch.bfloat16).chunk(2, -1)
        x.view(-1).add_(1)
        lowest = torch.where(ids > 0, torch.zeros(()), torch.finfo(torch.float32).min)
        return {"y": y, "rest": (first @ second.T, x * 2, [lowest, ids])}


def weights_of(program, module):
    state = module.state_dict()
    return [state[name] for name in program.weight_names]


def test_parity_with_eager_after_a_round_trip():
    torch.manual_seed(0)
    module, x, ids = Mixed().eval(), torch.randn(4, 8), torch.tensor([0, 1])
    compiled = Program.compile(module, (x, ids))
    compiled = Program.from_bytes(compiled.to_bytes())
    given = x.clone()
    outputs = compiled.run(weights_of(compiled, module), [given, ids])
    assert torch.equal(given, x), "a program must not write to its inputs"
    expected = module(x.clone(), ids)
    flat = [expected["y"], *expected["rest"][:2], *expected["rest"][2]]
    for output, reference in zip(outputs, flat):
        assert output.dtype == reference.dtype
        torch.testing.assert_close(output, reference)  # its products sum in another order, see emulator/matmul.py
    assert compiled.structure == {"y": 0, "rest": ["tuple", 1, 2, ["list", 3, 4]]}
    assert compiled.input_names == ("x", "ids")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([torch.ones(4, 8)], "compiled for 2 inputs, 1 were given"),
        ([torch.ones(5, 8), torch.ones(2).long()], r"input 0 \(x\): compiled for float32\[4, 8\], got float32\[5, 8"),
        ([torch.ones(4, 8), torch.ones(2).int()], r"input 1 \(ids\): compiled for int64\[2\], got int32\[2\]"),
    ],
)
def test_inputs_are_static(inputs, message):
    module = Mixed().eval()
    compiled = Program.compile(module, (torch.ones(4, 8), torch.ones(2).long()))
    with pytest.raises(RuntimeError, match=message):
        compiled.run(weights_of(compiled, module), inputs)


class Block(nn.Module):
    """The middle block of a VAE at batch 1: attention leaves channels last, and a group norm follows."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(16, 16), nn.GroupNorm(4, 16)

    def forward(self, x):
        attended = self.linear(x.flatten(2).transpose(1, 2))
        return self.norm(attended.transpose(-1, -2).reshape(x.shape) + x)


def test_a_kernel_that_asks_for_dense_inputs_where_a_run_comes_to_other_strides_than_the_trace():
    torch.manual_seed(0)
    module, x = Block().eval(), torch.randn(1, 16, 8, 8)
    program = Program.compile(module, (x,))
    (output,) = program.run(weights_of(program, module), [x])
    torch.testing.assert_close(output, module(x))


def test_python_values_are_baked_at_compile_time():
    module = Calls(lambda x: x * module.scale)
    module.scale = 2.0
    compiled = Program.compile(module, (torch.ones(1),))
    module.scale = 5.0
    assert compiled.run([], [torch.ones(1)])[0].item() == 2.0


def test_device_bytes_counts_weights_constants_and_live_values():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(256))
            self.register_buffer("constant", torch.zeros(512), persistent=False)

        def forward(self, x):
            return (x + self.weight.sum() + self.constant.sum()) * 2

    compiled = Program.compile(Constant(), (torch.ones(1024),))
    weights, constants, live = 256 * 4, 512 * 4, 2 * 1024 * 4
    assert weights + constants + live <= compiled.device_bytes <= weights + constants + 2 * live


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--target trn1 --lnc 2", "NCC_EARG001.*--lnc 2 is for --target trn2, not trn1"),
        ("--target inf2 --logical-nc-config=2", "NCC_EARG001.*not inf2"),
        ("--target trn7", "NCC_EARG001.*--target 'trn7': choose one of inf2, trn1, trn1n, trn2"),
        (["--target", "trn1", "-O7"], "NCC_EARG001.*--optlevel '7'"),
        ("--auto-cast maybe", "NCC_EARG001.*--auto-cast 'maybe'"),
    ],
)
def test_bad_compiler_flags(flags, message):
    with pytest.raises(RuntimeError, match=message):
        Program.compile(nn.Identity(), (torch.ones(1),), compiler_args=flags)


def test_rightmost_flag_wins_and_trn2_has_two_cores_per_logical_core():
    compiled = Program.compile(nn.Identity(), (torch.ones(1),), compiler_args="--target trn1 --target=trn2 -O1")
    assert (compiled.flags.target, compiled.flags.lnc) == ("trn2", 2)


def test_a_target_is_needed(monkeypatch):
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE")
    with pytest.raises(RuntimeError, match="no compile target"):
        Program.compile(nn.Identity(), (torch.ones(1),))


def test_only_tensors_can_be_returned():
    with pytest.raises(RuntimeError, match="output 1 is 3"):
        Program.compile(Calls(lambda x: (x, 3)), (torch.ones(1),))


def test_another_torch_is_refused(monkeypatch):
    serialised = Program.compile(nn.Identity(), (torch.ones(1),)).to_bytes()
    monkeypatch.setattr(program_module, "_torch_release", lambda: "1.0")
    with pytest.raises(RuntimeError, match=r"compiled under torch 2\.\d+, this is torch 1.0"):
        Program.from_bytes(serialised)


def test_garbage_is_no_program():
    with pytest.raises(RuntimeError, match="not a program of the Neuron emulator"):
        Program.from_bytes(b"PK\3\4" + bytes(100))


def test_mesh_must_cover_all_ranks():
    with pytest.raises(ValueError, match="must name each of 4 ranks once"):
        Program.compile(Calls(total), (torch.ones(1),), world_size=4)


def test_collectives_do_not_run_eagerly():
    with pytest.raises(RuntimeError, match="neuron_emulator::all_reduce runs only inside a compiled program"):
        total(torch.ones(1))
