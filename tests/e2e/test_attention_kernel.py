"""Pictures whose attention is the SDK's kernel, or its stand-in, against unmodified diffusers in float32.

The default run has a size that is filled up. 512 x 512 pixels have 1024 tokens, the smallest square that every rank's
kernel takes here as it is. Tolerance: bfloat16 has 8 bits, 38 dB, as in test_parity.
"""

import numpy as np
import pytest

from optimum_pixart_neuron.errors import InvalidExportOption

from ..parity import psnr
from .conftest import (
    assert_same_pictures,
    describe,
    load_ours,
    load_stock,
    neuron_section,
    noise,
    picture,
    pictures,
)

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

KERNEL = "attention_isa_kernel"
SIZE = {"height": 512, "width": 512}
GATHER = {"tensor_parallel_size": 4, "exchange": "gather"}  # 512 queries, 1024 keys


def drawn(pipe, **size: int) -> np.ndarray:
    return picture(pipe, latents=noise(size=(512, 512)), num_inference_steps=1, use_resolution_binning=False, **size)


@pytest.fixture(scope="module")
def expected(reference):
    return drawn(reference, **SIZE)


def kernels_of(folder) -> dict[str, str]:
    return neuron_section(folder, "transformer")["attention"]


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
    assert psnr(drawn(load(folder)), expected) >= 38


def test_auto_takes_what_gains(tiny_checkpoint):
    def decided(**options) -> tuple[str | None, str | None]:
        deployment, _ = describe(tiny_checkpoint, **options)
        return deployment.attention_kernel, deployment.masked_kernel

    assert decided(**SIZE, **GATHER) == decided(**SIZE, **GATHER, instance_type="trn2") == (KERNEL, KERNEL)
    # Few keys of text filled up to 512 take longer than the scores of so few travel.
    assert decided(tensor_parallel_size=2, sequence_length=32) == (KERNEL, None)
    assert decided(**SIZE, **GATHER, torch_dtype="float32") == (None, None)
    with pytest.raises(InvalidExportOption, match="computes in bfloat16, not in float32; change --torch_dtype"):
        decided(**SIZE, **GATHER, torch_dtype="float32", attention="nki")


def test_a_size_that_is_filled_up(exported, reference_images):
    """256 tokens, text of 300: fewer than the kernel takes, and masked."""
    folder = exported(tensor_parallel_size=2, attention="nki", batch_size=2)
    assert kernels_of(folder) == {"kernel": KERNEL, "masked_kernel": KERNEL}
    assert_same_pictures(pictures(load_ours(folder)), reference_images, 38)
