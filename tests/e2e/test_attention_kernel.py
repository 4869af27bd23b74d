"""Pictures whose attention is the SDK's kernel, or its stand-in, against unmodified diffusers in float32.

The default run has a size that is filled up. 512 x 512 pixels have 1024 tokens, the smallest square that every rank's
kernel takes here as it is. Tolerance: bfloat16 has 8 bits, 38 dB, as in test_parity.
"""

import json

import pytest
import torch

from optimum_pixart_neuron.errors import InvalidExportOption

from ..parity import psnr
from .conftest import PROMPTS, assert_same_pictures, describe, export_to, load_ours, load_stock, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

KERNEL = "attention_isa_kernel"
SIZE = {"height": 512, "width": 512}
GATHER = {"tensor_parallel_size": 4, "exchange": "gather"}  # 512 queries, 1024 keys


def arguments() -> dict:
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    more = {"latents": latents, "num_inference_steps": 1, "use_resolution_binning": False}
    return {**pipeline_arguments(1), **more}


@pytest.fixture(scope="module")
def expected(reference):
    return reference(PROMPTS[0], **SIZE, **arguments()).images[0]


def kernels_of(folder) -> dict[str, str]:
    return json.loads((folder / "transformer" / "config.json").read_text())["neuron"]["attention"]


CASES = {
    "gather": (GATHER, load_stock),
    "gather, ours": (GATHER, load_ours),
    "one core": ({"tensor_parallel_size": 1}, load_stock),
    "all-to-all": ({"tensor_parallel_size": 4, "exchange": "all-to-all"}, load_stock),
    "tensor": ({"tensor_parallel_size": 2, "parallel_mode": "tensor"}, load_stock),
    "data": ({"tensor_parallel_size": 2, "parallel_mode": "data"}, load_ours),
    "written out": ({**GATHER, "attention": "math"}, load_stock),
}


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_pictures_of_a_size_that_is_taken_as_it_is(exported, expected, case):
    options, load = CASES[case]
    options = {"attention": "nki", **options}
    folder = exported(**SIZE, **options)
    assert kernels_of(folder)["kernel"] == {"nki": KERNEL}.get(options["attention"], options["attention"])
    assert psnr(load(folder)(PROMPTS[0], **arguments()).images[0], expected) >= 38


def test_auto_takes_what_gains(tiny_checkpoint):
    def decided(**options) -> tuple[str | None, str | None]:
        deployment, _ = describe(tiny_checkpoint, **options)
        return deployment.attention_kernel, deployment.masked_kernel

    assert decided(**SIZE, **GATHER) == (KERNEL, KERNEL)
    # Few keys of text filled up to 512 take longer than the scores of so few travel.
    assert decided(tensor_parallel_size=2, sequence_length=32) == (KERNEL, None)
    assert decided(**SIZE, **GATHER, torch_dtype="float32") == (None, None)


def test_a_size_that_is_filled_up(exported, reference_images):
    """256 tokens, text of 300: fewer than the kernel takes, and masked."""
    folder = exported(tensor_parallel_size=2, attention="nki", batch_size=2)
    assert kernels_of(folder) == {"kernel": KERNEL, "masked_kernel": KERNEL}
    assert_same_pictures(load_ours(folder)(PROMPTS, **pipeline_arguments()).images, reference_images, 38)


@pytest.mark.soak
def test_two_physical_cores_a_logical_one(exported):
    folder = exported(**SIZE, **GATHER, instance_type="trn2", attention="nki")
    assert kernels_of(folder)["kernel"] == KERNEL
    assert json.loads((folder / "transformer" / "config.json").read_text())["neuron"]["lnc"] == 2


def test_a_type_that_it_does_not_compute_in_is_refused(tiny_checkpoint, tmp_path):
    options = {**SIZE, "attention": "nki", "tensor_parallel_size": 2, "torch_dtype": "float32"}
    with pytest.raises(InvalidExportOption, match="computes in bfloat16, not in float32; change --torch_dtype"):
        export_to(tmp_path / "out", tiny_checkpoint, **options)
    assert list(tmp_path.iterdir()) == []
