"""The released transformer's geometry once: 28 blocks, 16 heads of 72, captions of 4096, at 512 px over two ranks.

Random weights in bfloat16; the text encoder has the released width and one small layer, the VAE is the tiny one.
Run with `pytest -m slow -s tests/e2e/test_full_geometry.py` to see times and peak memory.
"""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.cpu.products import FasterBfloat16
from tests.tiny import build_tiny_checkpoint

from ..parity import relative_error

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# An unmodified user's script, in a process of its own so that peak memory is its own.
SCRIPT = """
import json, sys, time
from safetensors.torch import load_file, save_file
from optimum.neuron import NeuronPixArtSigmaPipeline

def peak_gib(pid="self"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**20

folder, inputs, outputs, report = sys.argv[1:]
begin = time.monotonic()
pipe = NeuronPixArtSigmaPipeline.from_pretrained(folder)
loaded = time.monotonic()
sample = pipe.transformer(**load_file(inputs), return_dict=False)[0]
predicted = time.monotonic()
image = pipe("a lighthouse", num_inference_steps=1, output_type="np").images
stepped = time.monotonic()
assert image.shape == (1, 512, 512, 3)
save_file({"sample": sample}, outputs)

from optimum_pixart_neuron.emulator.runtime import rank_process_ids
numbers = {
    "load s": loaded - begin,
    "transformer call s": predicted - loaded,
    "picture of one step s": stepped - predicted,
    "main process peak GiB": peak_gib(),
    "rank peak GiB": [round(peak_gib(pid), 2) for pid in rank_process_ids()],
}
json.dump(numbers, open(report, "w"))
"""


CONDITIONS = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "return_dict": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = build_tiny_checkpoint(
        tmp_path_factory.mktemp("xl2") / "pixart-sigma-xl2-512",
        dtype=torch.bfloat16,
        heads=16,
        head_dim=72,
        layers=28,
        caption_dim=4096,
        text_heads=64,
        text_ff=1024,
        text_layers=1,
        sample_size=64,
    )
    # 28 blocks of the tiny model's strength amplify any rounding until nothing can be compared; in trained ones each
    # adds little to what it is given.
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for name in weights:
        if name.endswith(("to_out.0.weight", "ff.net.2.weight")):
            weights[name] *= (3 * 28) ** -0.5
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    """The guidance pair of one image, with padding."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 64, 64, generator=generator),
        "encoder_hidden_states": torch.randn(2, 300, 4096, generator=generator),
        "timestep": torch.tensor([999.0, 999.0]),
        "encoder_attention_mask": (torch.arange(300) < torch.tensor([[12], [40]])).long(),
    }


@pytest.fixture(scope="module")
def predictions(checkpoint, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """diffusers' own, in float32 and in bfloat16."""
    theirs = PixArtTransformer2DModel.from_pretrained(checkpoint, subfolder="transformer").float()
    low = {name: tensor.bfloat16() if tensor.ndim > 2 else tensor for name, tensor in inputs.items()}
    with torch.no_grad(), FasterBfloat16():
        return theirs(**inputs, **CONDITIONS)[0], theirs.bfloat16()(**low, **CONDITIONS)[0].float()


def measured(command, name: str) -> dict[str, float]:
    """Run a command to its end; its wall-clock time and the peak memory of its largest process."""
    begin = time.monotonic()
    process = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {f"{name} s": time.monotonic() - begin, f"{name} peak GiB": usage.ru_maxrss / 2**20}


@pytest.mark.parametrize("mode", ["tensor", "context"])
def test_xl_2_over_two_ranks(checkpoint, inputs, predictions, tmp_path, mode):
    folder, script = tmp_path / "exported", tmp_path / "script.py"
    export = [
        "optimum_pixart_neuron.commands.export_neuron",
        "--model",
        checkpoint,
        folder,
        "--tensor_parallel_size",
        2,
    ]
    numbers = measured([sys.executable, "-m", *export, "--parallel_mode", mode], "export")

    script.write_text(SCRIPT)
    files = [tmp_path / name for name in ("inputs.safetensors", "outputs.safetensors", "report.json")]
    save_file(inputs, files[0])
    measured([sys.executable, "-m", "optimum_pixart_neuron.emulator", script, folder, *files], "script")
    numbers |= json.loads(files[2].read_text())

    sample, (expected, upstream) = load_file(files[1])["sample"], predictions
    error, their_error = relative_rms(sample, expected), relative_rms(upstream, expected)
    numbers |= {"relative RMS error": error, "of diffusers in bfloat16": their_error}
    numbers["relative maximum error"] = relative_error(sample, expected)
    print(f"\n{mode}")
    for name, value in numbers.items():
        print(f"{name:<26} {value if isinstance(value, list) else format(value, '.4g')}")
    # The rounding of 28 blocks in bfloat16; at most 3 dB more than diffusers', as for the pictures.
    assert error <= their_error * 2**0.5


def relative_rms(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    return ((result.double() - reference.double()).pow(2).mean() / reference.double().pow(2).mean()).sqrt().item()
