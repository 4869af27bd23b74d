"""Pictures whose attention is the SDK's kernel, or its stand-in, against unmodified diffusers in float32.

512 x 512 pixels have 1024 tokens, the smallest square that every rank's kernel takes here as it is; the default run
has the one of the default mode, the others take minutes. Tolerance: bfloat16 has 8 bits, 38 dB, as in test_parity.
"""

import json

import pytest
import torch

from optimum_pixart_neuron.checkpoint.open import open_checkpoint
from optimum_pixart_neuron.deployment.deployment import chosen_instance, decide
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions

from ..parity import psnr
from .conftest import PROMPTS, load_ours, load_stock, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

KERNEL = "attention_isa_kernel"
SIZE = {"height": 512, "width": 512}
GATHER = {"tensor_parallel_size": 4, "exchange": "gather"}  # 512 queries, 1024 keys
ONE_CORE = {"tensor_parallel_size": 1}
ALL_TO_ALL = {"tensor_parallel_size": 4, "exchange": "all-to-all"}
TENSOR = {"tensor_parallel_size": 2, "parallel_mode": "tensor"}
DATA = {"tensor_parallel_size": 2, "parallel_mode": "data"}


def arguments() -> dict:
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    more = {"latents": latents, "num_inference_steps": 1, "use_resolution_binning": False}
    return {**pipeline_arguments(1), **more}


@pytest.fixture(scope="module")
def expected(reference):
    return reference(PROMPTS[0], **SIZE, **arguments()).images[0]


def kernel_of(folder) -> str:
    return kernels_of(folder)["kernel"]


def kernels_of(folder) -> dict[str, str]:
    return json.loads((folder / "transformer" / "config.json").read_text())["neuron"]["attention"]


@pytest.mark.parametrize("load", [pytest.param(load_stock, marks=pytest.mark.soak), load_ours])
@pytest.mark.parametrize(
    "options",
    [
        GATHER,
        *(pytest.param(each, marks=pytest.mark.soak) for each in ({"tensor_parallel_size": 1}, ALL_TO_ALL, TENSOR)),
    ],
    ids=["gather", "one core", "all-to-all", "tensor"],
)
def test_pictures_with_the_kernel(exported, expected, options, load):
    folder = exported(**SIZE, **options, attention="nki")
    assert kernel_of(folder) == KERNEL
    assert psnr(load(folder)(PROMPTS[0], **arguments()).images[0], expected) >= 38


@pytest.mark.soak
def test_pictures_in_data_mode(exported, expected):
    folder = exported(**SIZE, **DATA, attention="nki")
    assert kernel_of(folder) == KERNEL
    assert psnr(load_ours(folder)(PROMPTS[0], **arguments()).images[0], expected) >= 38


@pytest.mark.soak
def test_pictures_written_out(exported, expected):
    folder = exported(**SIZE, **GATHER, attention="math")
    assert kernel_of(folder) == "math"
    assert psnr(load_stock(folder)(PROMPTS[0], **arguments()).images[0], expected) >= 38


def test_auto_takes_what_gains(tiny_checkpoint, sdk):
    def decided(**options) -> tuple[str | None, str | None]:
        options = ExportOptions(model=str(tiny_checkpoint), output="nowhere", **options)
        deployment = decide(options, open_checkpoint(options), chosen_instance(options, sdk))
        return deployment.attention_kernel, deployment.masked_kernel

    assert decided(**SIZE, **GATHER) == (KERNEL, KERNEL)
    # Few keys of text filled up to 512 take longer than the scores of so few travel.
    assert decided(tensor_parallel_size=2, sequence_length=32) == (KERNEL, None)
    assert decided(**SIZE, **GATHER, torch_dtype="float32") == (None, None)


@pytest.mark.soak
def test_a_size_that_is_filled_up(exported, reference_images):
    """256 tokens in two halves, text of 300: fewer than the kernel takes, and masked."""
    folder = exported(tensor_parallel_size=4, attention="nki", batch_size=2)
    assert kernels_of(folder) == {"kernel": KERNEL, "masked_kernel": KERNEL}
    for drawn, expected in zip(load_ours(folder)(PROMPTS, **pipeline_arguments()).images, reference_images):
        assert psnr(drawn, expected) >= 38


@pytest.mark.soak
def test_two_physical_cores_a_logical_one(exported):
    folder = exported(**SIZE, **GATHER, instance_type="trn2", attention="nki")
    assert kernel_of(folder) == KERNEL
    assert json.loads((folder / "transformer" / "config.json").read_text())["neuron"]["lnc"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**SIZE, "torch_dtype": "float32"}, "computes in bfloat16, not in float32; change --torch_dtype"),
        ({"attention": "flash"}, "--attention flash: choose auto, nki or math"),
    ],
)
def test_refusals(tiny_checkpoint, tmp_path, options, message):
    from optimum_pixart_neuron.export.exporter import export

    options = {"attention": "nki", "tensor_parallel_size": 2, **options}
    with pytest.raises(InvalidExportOption, match=message):
        export(ExportOptions(model=str(tiny_checkpoint), output=tmp_path / "out", **options))
    assert list(tmp_path.iterdir()) == []
