"""One export of several programs: pictures of every size against unmodified diffusers in float32, weights once.

55 dB as in test_parity: the programs compute in float32, so what is left is the order of sums.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from optimum_pixart_neuron.benchmark.measure import benchmark
from optimum_pixart_neuron.benchmark.options import BenchmarkOptions
from optimum_pixart_neuron.benchmark.table import print_report
from optimum_pixart_neuron.errors import InvalidExportOption, ProgramInputError
from optimum_pixart_neuron.terminal.table import console

from ..parity import psnr
from .conftest import fresh_runtime, load_ours, load_stock, neuron_section, noise, picture

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

SIZES = ((256, 256), (192, 336))
"""The square of the tiny checkpoint and one of its aspect ratios: 16 x 16 and 12 x 21 tokens."""
NAMES = tuple(f"{height}x{width}" for height, width in SIZES)


def drawn(pipe, size: tuple[int, int], **asked) -> np.ndarray:
    height, width = size
    return picture(pipe, num_inference_steps=2, height=height, width=width, **{"latents": noise(size=size), **asked})


@pytest.fixture(scope="module")
def references(reference) -> dict:
    return {size: drawn(reference, size) for size in SIZES}


def check_our_class(pipe, references) -> None:
    assert pipe.compiled_sizes == SIZES
    for size in SIZES:
        image = drawn(pipe, size)
        assert image.shape == (*size, 3)
        assert psnr(image, references[size]) >= 55


def check_stock_class(folder: Path, references) -> None:
    """Which asks for no size."""
    assert psnr(picture(load_stock(folder), num_inference_steps=2), references[SIZES[0]]) >= 55


def weight_files(folder: Path, component: str) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (folder / component / "weights").iterdir()}


def programs(folder: Path, component: str) -> list[dict]:
    return neuron_section(folder, component).get("programs", [])


@pytest.fixture(scope="module")
def folder(exported) -> Path:
    return exported(tensor_parallel_size=2, torch_dtype="float32", sizes=NAMES, guidance="both")


@pytest.fixture(scope="module")
def pipe(folder):
    return load_ours(folder)


def test_every_size_is_diffusers_picture(pipe, references):
    check_our_class(pipe, references)


def test_other_sizes_are_resized_and_cropped_as_diffusers_does(pipe, reference):
    """(100, 180) px is drawn at the bin 192 x 336 by diffusers, which is compiled."""
    image, expected = (drawn(each, (100, 180), latents=noise(size=SIZES[1])) for each in (pipe, reference))
    assert image.shape == (100, 180, 3)
    assert psnr(image, expected) >= 55
    with pytest.raises(ProgramInputError, match="compiled for 256 x 256, 192 x 336 px; no export draws that"):
        drawn(pipe, (96, 176), use_resolution_binning=False)


def test_one_half_is_diffusers_picture_without_guidance(pipe, reference):
    for size in SIZES:
        image, expected = (drawn(each, size, guidance_scale=1.0) for each in (pipe, reference))
        assert psnr(image, expected) >= 55


def test_the_programs_and_their_one_set_of_weights(folder):
    both = [name for size in NAMES for name in (size, f"{size}-one-half")]
    assert [each["name"] for each in programs(folder, "transformer")] == both
    groups = {each["guided"]: each["groups"] for each in programs(folder, "transformer")}
    assert groups == {True: [[0], [1]], False: [[0, 1]]}
    assert [each["name"] for each in programs(folder, "vae_decoder")] == list(NAMES)
    assert programs(folder, "text_encoder") == []
    for component in ("text_encoder", "transformer", "vae_decoder"):
        assert [path.name for path in (folder / component).rglob("*.neuron")] == ["model.neuron"]
        assert len(weight_files(folder, component)) == 2
    manifest = json.loads((folder / "neuron_manifest.json").read_text())
    recorded = manifest["components"]["transformer"]["programs"]
    shapes = [each["inputs"][0]["shape"] for each in recorded]
    cells = ([32, 32], [24, 42])
    assert shapes == [[rows, 4, *size] for size in cells for rows in (2, 1)]


def test_a_rank_holds_its_weights_once(folder, pipe):
    """On the emulator's device, of all four programs."""
    from optimum_pixart_neuron import emulator

    if not emulator.is_active():
        pytest.skip("the emulator counts what a core holds")
    from optimum_pixart_neuron.emulator.program import Program
    from optimum_pixart_neuron.emulator.spmd_ops import device_bytes

    (copy,) = pipe.transformer.model.programs[0].copies
    stored_programs = copy.program.nxd_model.programs
    decoded = [Program.from_bytes(memoryview(each.contiguous().numpy())) for each in stored_programs]
    shard = load_file(folder / "transformer" / "weights" / "tp0_sharded_checkpoint.safetensors")
    stored = sum(weight.nbytes for weight in shard.values())
    weights = {name: spec.nbytes for each in decoded for name, spec in zip(each.weight_names, each.weights)}
    beside = sum(each.device_bytes - sum(spec.nbytes for spec in each.weights) for each in decoded)
    assert len(decoded) == 4
    assert sum(weights.values()) == stored
    assert device_bytes(decoded) == stored + beside


def test_the_benchmark_counts_programs(folder, capsys):
    fresh_runtime()
    asked = {"output": str(folder), "images": 1, "warmup": 0, "num_inference_steps": 4, "size": "192x336"}
    report = benchmark(BenchmarkOptions(**asked, guidance_interval=(0.0, 0.5)))
    assert (report.compiled.height, report.compiled.width) == (192, 336)
    assert report.summary.programs["transformer"] == {"192x336": 2, "192x336-one-half": 2}
    assert report.summary.programs["vae_decoder"] == {"192x336": 1}
    assert report.summary.programs["text_encoder"] == {"all": 2}
    print_report(report, console())
    shown = " ".join(capsys.readouterr().out.split())
    assert "transformer 192x336 x 2, 192x336-one-half x 2; vae_decoder 192x336 x 1" in shown
    with pytest.raises(InvalidExportOption, match="--size 64x64: compiled for 256x256, 192x336"):
        benchmark(BenchmarkOptions(**{**asked, "size": "64x64"}))


def test_the_first_size_through_the_stock_class(folder, references):
    check_stock_class(folder, references)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (4, {}),
        (2, {"parallel_mode": "tensor", "guidance": "both"}),
        (4, {"parallel_mode": "tensor"}),
        (4, {"vae_parallel": "one"}),
        (4, {"vae_tile_size": 192}),
    ],
    ids=str,
)
def test_other_modes(exported, reference, references, ranks, options):
    """Also with a decoder of one core, whose programs are files of their own, and in tiles, which sizes share."""
    several = exported(tensor_parallel_size=ranks, torch_dtype="float32", sizes=NAMES, **options)
    one = exported(tensor_parallel_size=ranks, torch_dtype="float32", **{**options, "guidance": None})
    for component in ("text_encoder", "transformer"):
        assert weight_files(several, component) == weight_files(one, component)
    decoder = several / "vae_decoder"
    files = {path.relative_to(decoder).as_posix() for path in decoder.rglob("*.neuron")}
    own = {f"{name}/model.neuron" for name in NAMES[1:]} if options.get("vae_parallel") == "one" else set()
    assert files == {"model.neuron"} | own
    pipe = load_ours(several)
    if "vae_tile_size" in options:  # tiles are no exact decoder
        for size in SIZES:
            found, wanted = (drawn(each, size, output_type="latent") for each in (pipe, reference))
            assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
            assert drawn(pipe, size).shape == (*size, 3)
        return
    check_our_class(pipe, references)
    check_stock_class(several, references)


@pytest.mark.soak
def test_every_program_is_validated(exported):
    options = {"tensor_parallel_size": 2, "sizes": NAMES, "guidance": "both", "disable_validation": False}
    folder = exported(**options)
    records = json.loads((folder / "neuron_manifest.json").read_text())["validation"]
    named = [(each["component"], each.get("program")) for each in records if each["passed"]]
    both = [name for size in NAMES for name in (size, f"{size}-one-half")]
    expected = [("transformer", name) for name in both] + [("vae_decoder", name) for name in NAMES]
    assert named == [("text_encoder", None), *expected]
