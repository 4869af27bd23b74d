"""Which kernel is chosen, how it is called, and where it is used. The kernels themselves run only on hardware."""

import sys
from types import ModuleType
from unittest.mock import MagicMock, call

import pytest
import torch

from optimum_pixart_neuron.components.common.attention import attend
from optimum_pixart_neuron.components.common.attention_kernel import (
    KERNELS,
    Attended,
    KernelAttention,
    available_kernels,
    choose_kernel,
)
from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.hardware import get_instance
from optimum_pixart_neuron.parallel.split import ContextSplit

from ..parity import relative_error
from ..refusals import refusal
from .conftest import ours, transformer_inputs

ISA, CTE = "attention_isa_kernel", "nkilib.attention_cte"
BOTH = (ISA, CTE)
# PixArt-Sigma at 1024 px on one core.
XL = {"head_width": 72, "query_tokens": 4096, "key_tokens": 4096, "batch_heads": 16, "lnc": 1, "dtype": torch.bfloat16}


def choose(requested, available, size):
    wanted = {**XL, **size}
    lnc, dtype = wanted.pop("lnc"), wanted.pop("dtype")
    instance = get_instance("trn1" if lnc == 1 else "trn2")
    return choose_kernel(requested, Attended(**wanted), instance=instance, lnc=lnc, dtype=dtype, available=available)


@pytest.mark.parametrize(
    ("size", "available", "chosen"),
    [
        ({}, (ISA,), ISA),
        ({}, (CTE,), CTE),
        ({}, BOTH, CTE),
        ({}, (), None),
        # 2048 px; and four sequence ranks with the gather: fewer queries than keys
        ({"query_tokens": 16384, "key_tokens": 16384, "batch_heads": 64}, BOTH, CTE),
        ({"query_tokens": 1024}, (ISA,), ISA),
        # the edges
        ({"query_tokens": 512, "key_tokens": 512, "head_width": 128}, (ISA,), ISA),
        ({"query_tokens": 512, "lnc": 2}, (ISA,), ISA),
        ({"query_tokens": 1025, "lnc": 2}, (ISA,), ISA),
        ({"query_tokens": 768}, (ISA,), ISA),
        ({"batch_heads": 512}, (CTE,), CTE),
        # what the kernel of 2.26 does not take the later one does
        ({"query_tokens": 256}, BOTH, CTE),
        # what the later one has not been tried with, the other takes
        ({"batch_heads": 513}, BOTH, ISA),
        # filled up: cross-attention at 1024 px, and what a core has of 256 px
        ({"key_tokens": 300, "masked": True}, (ISA,), ISA),
        ({"query_tokens": 128, "key_tokens": 256}, (ISA,), ISA),
        ({"query_tokens": 768, "lnc": 2}, (ISA,), ISA),
        # filling up costs more than the scores that travel
        ({"query_tokens": 16, "key_tokens": 16}, (ISA,), None),
    ],
)
def test_sizes_that_are_taken(size, available, chosen):
    assert choose("auto", available, size) == chosen
    assert choose("math", available, size) is None


@pytest.mark.parametrize(
    ("size", "available", "reason"),
    [
        ({}, (), "the installed SDK has no attention kernel"),
        ({"dtype": torch.float32}, (ISA,), "computes in bfloat16, not in float32; change --torch_dtype"),
        ({"lnc": 4}, (ISA,), "does not run at LNC 4; change --instance_type"),
        ({"head_width": 129}, (ISA,), "takes heads of at most 128 channels, the checkpoint's have 129"),
        (
            {"head_width": 128, "masked": True},
            (CTE,),
            "takes heads of at most 128 channels, the checkpoint's have 128",
        ),
        ({"head_width": 160}, (CTE,), "takes heads of at most 128 channels, the checkpoint's have 160"),
        (
            {"key_tokens": 131073, "query_tokens": 256},
            (CTE,),
            "takes at most 131072 key tokens at LNC 1, a core has 131073; change --height",
        ),
        (
            {"batch_heads": 513, "query_tokens": 256, "key_tokens": 256},
            (CTE,),
            "takes at most 512 heads of all images, a core has 513; change --batch_size or --num_images_per_prompt",
        ),
        (
            {"batch_heads": 512, "query_tokens": 16384, "key_tokens": 16384},
            (CTE,),
            "takes at most 43486543872 scores (heads x query x key tokens), a core has 137438953472;"
            " change --batch_size, --height or --width",
        ),
    ],
)
def test_sizes_that_are_not(size, available, reason):
    assert choose("auto", available, size) is None
    message = refusal(InvalidExportOption, choose, "nki", available, size)
    assert message.startswith(
        f"--attention nki: {available[0]} {reason}" if available else f"--attention nki: {reason}"
    )
    assert message.endswith(", or choose --attention auto")


def test_every_kernel_that_refuses_says_why():
    with pytest.raises(InvalidExportOption, match=f"{CTE} takes heads of .* 200; {ISA} takes heads of .* 200"):
        choose("nki", BOTH, {"head_width": 200})


def launched(compute) -> MagicMock:
    """A kernel that keeps what it is called with, and the grid that it is given: it computes in plain torch."""
    kernel = MagicMock(side_effect=compute)
    kernel.__getitem__.return_value = kernel
    return kernel


@pytest.fixture
def nkilib(monkeypatch):
    """An SDK after 2.28 as far as imports see: nkilib, no kernels inside neuronxcc."""
    kernel = launched(lambda query, key, value, scale, **flags: attend(query[None], key[None], value[None])[0])
    for name in ("nkilib", "nkilib.core", "nkilib.core.attention", "nkilib.core.attention.attention_cte"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["nkilib.core.attention.attention_cte"].attention_cte = kernel
    for name in ("neuronxcc", "neuronxcc.nki", "neuronxcc.nki.language", "neuronxcc.nki._private_kernels.attention"):
        monkeypatch.setitem(sys.modules, name, None)
    return kernel


@pytest.mark.parametrize(("lnc", "grids"), [(1, []), (2, [call(2)])])
@torch.no_grad()
def test_call_of_nkilib(nkilib, lnc, grids):
    """With the exact scale: the AWS sample has 0.117 for a head width of 72, 0.7 % too small."""
    assert available_kernels() == (CTE,)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 16, 72, generator=generator).bfloat16()
    key, value = (torch.randn(2, 3, 40, 72, generator=generator).bfloat16() for _ in range(2))
    result = KernelAttention(name=CTE, lnc=lnc)(query, key, value)
    assert torch.equal(result, attend(query, key, value))
    (*tensors, scale), flags = nkilib.call_args
    assert [tuple(tensor.shape) for tensor in tensors] == [(6, 16, 72), (6, 40, 72), (6, 40, 72)]
    assert scale == 72**-0.5 and flags == {"causal_mask": False, "tp_q": True, "tp_k": True, "tp_out": False}
    assert nkilib.__getitem__.mock_calls == grids


@pytest.mark.parametrize("home", ["neuronxcc.nki._private_kernels.attention", "neuronxcc.nki.kernels.attention"])
@torch.no_grad()
def test_call_of_the_isa_kernel_at_lnc_2(monkeypatch, home):
    names = [name for names, _ in KERNELS[ISA].imports for name in names]
    modules = {name: ModuleType(name) for name in names}

    def compute(query, key, value, scale, out, *, kernel_name):
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        out.copy_(attend(query[None], key[None], value[None])[0])

    kernel = launched(compute)
    modules["torch_neuronx.xla_impl.ops"].nki_jit = lambda: {"the kernel": kernel}.get
    modules[home].attention_isa_kernel = "the kernel"
    modules["neuronxcc.nki.language"].nc = lambda count: f"nc({count})"
    for name, module in modules.items():
        for parent in [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]:
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, module)
    query, key, value = (torch.randn(1, 2, tokens, 8).bfloat16() for tokens in (512, 1024, 1024))
    result = KernelAttention(name=ISA, lnc=2)(query, key, value)
    assert torch.equal(result, attend(query, key, value))
    (*tensors, scale, out), named = kernel.call_args
    shapes = [(2, 8, 512), (2, 8, 1024), (2, 1024, 8), (2, 512, 8)]
    assert [tuple(tensor.shape) for tensor in (*tensors, out)] == shapes and out.dtype == torch.bfloat16
    assert scale == 8**-0.5 and named == {"kernel_name": "AttentionMMSoftmaxMMWithoutSwap"}
    assert kernel.__getitem__.mock_calls == [call(("nc(2)",))]


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_cross_attention_uses_one_that_masks(transformer, masked):
    kernel = launched(attend)
    kernel.masked = masked
    inputs = transformer_inputs(8, 12)
    expected = ours(transformer, (8, 12))(*inputs)[0]
    assert relative_error(ours(transformer, (8, 12), kernel=kernel)(*inputs)[0], expected) < 1e-6
    calls = [(query.shape[2], key.shape[2]) for (query, key, *_), _ in kernel.call_args_list]
    assert calls == ([(24, 24), (24, 20)] if masked else [(24, 24)]) * 2


def exact(name, lnc, query, key, value, scale):
    """What a kernel computes: products of its inputs are summed, and scores kept, in float32 (PSUM)."""
    limits = KERNELS[name].tokens[lnc]
    assert query.shape[-1] == key.shape[-1] == value.shape[-1] <= KERNELS[name].max_head_width
    assert all(limits.filled(tensor.shape[1]) == tensor.shape[1] for tensor in (query, key))
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2)) * scale
    return torch.matmul(scores.softmax(-1).to(value.dtype), value)


# Keys of text among 300, two rows; and numbers of queries that are taken as they are, or filled up.
@pytest.mark.seconds
@pytest.mark.parametrize("text", [(1, 17), (0, 300)])
@pytest.mark.parametrize("queries", [1024, 100])
@pytest.mark.parametrize("name", BOTH)
def test_a_mask_is_a_channel(monkeypatch, name, queries, text):
    """Equal to the written-out form: in float32 to rounding; in bfloat16 not further from float32 than that is."""
    monkeypatch.setattr("optimum_pixart_neuron.components.common.attention_kernel.launch", exact)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 72, generator=generator) for n in (queries, 300, 300))
    bias = torch.where(torch.arange(300) < torch.tensor(text)[:, None], 0.0, -10000.0)[:, None, None]
    kernel = KernelAttention(name=name, lnc=1, masked=True)
    expected = attend(query, key, value, bias)
    # Without any text all scores are near -10000, where float32 has three decimals.
    assert (kernel(query, key, value, bias) - expected).abs().max() < (2e-6 if min(text) else 2e-3)
    half = [tensor.bfloat16() for tensor in (query, key, value)]
    error = (kernel(*half, bias).float() - expected).square().mean().sqrt()
    written_out = (attend(*half, bias).float() - expected).square().mean().sqrt()
    assert error < 1.05 * written_out


@pytest.mark.seconds
@pytest.mark.parametrize(("queries", "keys"), [(128, 256), (512, 300), (1024, 4096)])
def test_keys_that_fill_up_take_no_part(monkeypatch, queries, keys):
    monkeypatch.setattr("optimum_pixart_neuron.components.common.attention_kernel.launch", exact)
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, 2, n, 72, generator=generator) for n in (queries, keys, keys))
    result = KernelAttention(name=ISA, lnc=1)(query, key, value)
    assert (result - attend(query, key, value)).abs().max() < 2e-6


@pytest.mark.seconds
@pytest.mark.parametrize("ranks", [1, 4])
def test_no_scores_are_left_in_the_transformer(ranks):
    """The released geometry at 1024 px with `--attention nki`: counted in the traced program, two of its blocks."""
    from optimum_pixart_neuron.neuron.compiler import environment_variables
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk
    from optimum_pixart_neuron.program.dry_run import record_graph
    from optimum_pixart_neuron.program.program import program_of_rank_0

    ensure_sdk()
    config = {"caption_channels": 4096, "sample_size": 128, "num_layers": 2, "use_additional_conditions": False}
    found = {}
    for kernel in (KernelAttention(name=ISA, lnc=1, masked=True), KernelAttention(name=ISA, lnc=1)):
        with environment_variables({"LOCAL_WORLD_SIZE": str(ranks)}), program_of_rank_0(ranks, 1):
            with torch.device("meta"):
                size = {"latent_height": 128, "latent_width": 128, "dtype": torch.bfloat16}
                model = PixArtTransformer.build(config, **size, kernel=kernel)
                if ranks > 1:
                    model.divide_context(ContextSplit(ranks=ranks, guidance_groups=2, exchange="gather"))
                shapes = [(2, 4, 128, 128), (2, 300, 4096), (2,)]
                inputs = (*map(torch.empty, shapes), torch.empty(2, 300, dtype=torch.int64))
            graph, _ = record_graph(model.to("meta"), inputs)
        names = [getattr(node.target, "__name__", "") for node in graph.nodes]
        found[kernel.masked] = (sum("softmax" in name for name in names), names.count("attention_kernel.default"))
    assert found == {True: (0, 4), False: (2, 2)}
