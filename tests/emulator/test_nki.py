"""The stand-in of the attention kernel: its result, its memory, and everything that it refuses."""

import itertools
import subprocess
import sys

import pytest
import torch
from neuronxcc.nki._private_kernels.attention import attention_isa_kernel
from neuronxcc.nki.language import nc
from torch import nn
from torch_neuronx.xla_impl.ops import nki_jit

from optimum_pixart_neuron.components.common.attention_kernel import KERNELS, Attended, available_kernels
from optimum_pixart_neuron.emulator.program import Program
from tests.emulator.programs import on_ranks

BFLOAT16 = torch.bfloat16
VARIANT = "AttentionMMSoftmaxMMWithoutSwap"
TRN2 = "--target trn2"


class Attention(nn.Module):
    """The kernel alone; arguments of the call can be replaced."""

    def __init__(self, grid=None, **replaced):
        super().__init__()
        self.launch = nki_jit()(attention_isa_kernel)
        if grid is not None:
            self.launch = self.launch[grid]
        self.replaced = replaced

    def forward(self, q, k, v):
        shape = (q.shape[0], q.shape[2], q.shape[1])
        out = torch.zeros(self.replaced.get("out_shape", shape), dtype=self.replaced.get("out_dtype", BFLOAT16))
        scale = self.replaced.get("scale", 0.25)
        self.launch(q, k, v, scale, out, kernel_name=self.replaced.get("kernel_name", VARIANT))
        return out


def inputs(queries=512, keys=1024, width=16, sequences=3, dtype=BFLOAT16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(sequences, width, queries), (sequences, width, keys), (sequences, keys, width)]
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


def expected(q, k, v, scale=0.25) -> torch.Tensor:
    q, k, v = q.double(), k.double(), v.double()
    return (q.transpose(1, 2) @ k * scale).softmax(-1) @ v


@pytest.mark.seconds
@pytest.mark.parametrize("sizes", [{}, {"queries": 1000, "keys": 777}, {"width": 72}, {"width": 128, "sequences": 1}])
@pytest.mark.parametrize(("grid", "flags"), [(None, "--target trn1"), ((nc(2),), TRN2), ((nc(1),), f"{TRN2} --lnc 1")])
def test_result(sizes, grid, flags):
    if grid == (nc(2),) and "queries" in sizes:
        sizes = {"queries": 1025, "keys": 1500}  # uneven ones only from 1024 on
    example = inputs(**sizes)
    program = Program.compile(Attention(grid), example, compiler_args=flags)
    (result,) = Program.from_bytes(program.to_bytes()).run([], list(example))
    reference = expected(*example)
    # bfloat16 of the probabilities and of the result: 8 bits each.
    assert result.dtype == BFLOAT16
    assert (result.double() - reference).abs().max() <= 2**-7 * reference.abs().max()


@pytest.mark.ranks
def test_result_on_ranks():
    """The ranks' processes know the operation, too."""
    example = inputs()
    program = Program.compile(Attention(), example, world_size=2)
    assert torch.equal(on_ranks([{}, {}], program)(*example), program.run([], list(example))[0])


@pytest.mark.soak
def test_scores_are_never_whole():
    """2 heads of 16384 tokens have 1 GiB of scores in bfloat16; the kernel takes a fraction."""
    code = """
import resource, torch
from optimum_pixart_neuron.emulator import kernels
q, k, v = (torch.randn(shape).bfloat16() for shape in ((2, 72, 16384), (2, 72, 16384), (2, 16384, 72)))
out = torch.zeros(2, 16384, 72, dtype=torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.ops.neuron_emulator.attention(out, q, k, v, 0.1, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 2**28


@pytest.mark.parametrize(
    ("replaced", "example", "message"),
    [
        ({"kernel_name": "CausalAttentionMMSoftmaxMMWithoutSwap"}, {}, "'CausalAtt.*' is not emulated, give 'Att"),
        ({"kernel_name": "AttentionMMSoftmaxMM"}, {}, "'AttentionMMSoftmaxMM' is not emulated"),
        ({"kernel_name": "Flash"}, {}, "kernel_name 'Flash' is unknown"),
        ({"scale": 1}, {}, "scale is a int, give a Python float"),
        ({"scale": torch.tensor(0.25)}, {}, "scale is a Tensor, give a Python float"),
        ({"out_dtype": torch.float32}, {}, "out has 3 dimensions of float32, give 3 of bfloat16"),
        ({}, {"dtype": torch.float32}, "q has 3 dimensions of float32, give 3 of bfloat16"),
        ({}, {"dtype": torch.float16}, "q has 3 dimensions of float16"),
        ({"out_shape": (1, 3, 512, 16)}, {}, "out has 4 dimensions of bfloat16"),
        ({"out_shape": (3, 16, 512)}, {}, r"out has shape \[3, 16, 512\], .* need \[3, 512, 16\]"),
        ({}, {"width": 129}, "heads of 129 channels, it takes at most 128"),
        ({}, {"queries": 511}, "511 query tokens, it takes at least 512"),
        ({}, {"keys": 256}, "256 key tokens, it takes at least 512"),
    ],
)
def test_calls_that_the_kernel_does_not_take(replaced, example, message):
    with pytest.raises(RuntimeError, match=f"attention_isa_kernel: .*{message}"):
        Program.compile(Attention(**replaced), inputs(**example))


def test_layouts_that_do_not_fit():
    q, k, v = inputs()
    for wrong in [(q, k.transpose(1, 2), v), (q, k, v.transpose(1, 2)), (q, k[:2], v), (q, k, v[:, :512])]:
        with pytest.raises(RuntimeError, match="attention_isa_kernel: [kv] has shape"):
            Program.compile(Attention(), wrong)


@pytest.mark.parametrize(
    ("grid", "flags", "message"),
    [
        ((nc(2),), "--target trn1", "on 2 physical core.s., .* compiled with --lnc 1: launch it without a grid"),
        ((nc(2),), f"{TRN2} --lnc 1", "on 2 physical core.s., .* compiled with --lnc 1"),
        (None, TRN2, r"on 1 physical core.s., .* compiled with --lnc 2: launch it on the grid \(nc\(2\),\)"),
    ],
)
def test_grids_that_disagree_with_the_logical_core(grid, flags, message):
    with pytest.raises(RuntimeError, match=message):
        Program.compile(Attention(grid), inputs(), compiler_args=flags)


def test_grids_that_are_none():
    launch = nki_jit()(attention_isa_kernel)
    for grid in (2, (2,), nc(2), (nc(2), nc(2))):
        with pytest.raises(RuntimeError, match=r"launch grid .* is not emulated, give \(nc\(2\),\) or none"):
            launch[grid]
    with pytest.raises(RuntimeError, match="nc.3.: a logical core has 1 or 2 physical cores"):
        nc(3)


def test_what_only_hardware_runs():
    with pytest.raises(RuntimeError, match="attention_isa_kernel runs only inside a compiled program"):
        Attention()(*inputs())
    with pytest.raises(RuntimeError, match="attention_isa_kernel is an NKI kernel: call nki_jit"):
        attention_isa_kernel(*inputs(), 1.0, None)

    def my_kernel(tensor):
        return tensor

    with pytest.raises(RuntimeError, match="no stand-in for my_kernel, use PyTorch operations"):
        nki_jit()(my_kernel)
    with pytest.raises(RuntimeError, match="nki_jit: mode has no meaning on the emulator"):
        nki_jit(mode="torchxla")


def test_only_the_kernel_of_this_sdk_is_there():
    assert available_kernels() == ("attention_isa_kernel",)
    with pytest.raises(ImportError):
        import nkilib  # noqa: F401


@pytest.mark.seconds
@pytest.mark.parametrize("cores", [1, 2])
def test_the_selection_knows_the_same_limits(cores):
    """What the export's table takes runs, filled up as it says; what it refuses or fills up does not run as it is."""
    kernel = KERNELS["attention_isa_kernel"]
    filled = kernel.tokens[cores].filled
    flags = f"{TRN2} --lnc {cores}"
    for queries, keys, width in itertools.product((511, 512, 768, 1000, 1024, 1111), (512, 768, 1025), (16, 128, 130)):
        size = Attended(query_tokens=queries, key_tokens=keys, head_width=width, batch_heads=1)
        example = inputs(queries, keys, width, 1)
        taken = kernel.refusal(size, lnc=cores, dtype=BFLOAT16) is None
        if taken:
            channel = kernel.has_mask_channel(keys, cores, False)
            whole = inputs(filled(queries), filled(keys), width + channel, 1)
            Program.compile(Attention((nc(cores),)), whole, compiler_args=flags)
        if not taken or (filled(queries), filled(keys)) != (queries, keys):
            with pytest.raises(RuntimeError, match="it takes at"):
                Program.compile(Attention((nc(cores),)), example, compiler_args=flags)
