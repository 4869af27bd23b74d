"""The command: what it measures on folders of both exporters, and what it refuses before it loads anything."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.benchmark.measure import _measure, _request, _run, benchmark
from optimum_pixart_neuron.benchmark.options import BenchmarkOptions
from optimum_pixart_neuron.benchmark.report import EMULATOR_NOTE
from optimum_pixart_neuron.benchmark.subject import Subject
from optimum_pixart_neuron.checkpoint.few_steps import CallDefaults
from optimum_pixart_neuron.commands.parser import given
from optimum_pixart_neuron.commands.pixart_benchmark import COMMAND
from optimum_pixart_neuron.errors import ArtifactError, DeviceError, InvalidExportOption

from ..e2e.conftest import fresh_runtime
from ..refusals import command_refusal
from ..runtime.conftest import export_of, stand_in  # noqa: F401

MODULE = [sys.executable, "-m", "optimum_pixart_neuron.commands.pixart_benchmark"]
FEW = ["--num_inference_steps", "2", "--images", "2", "--warmup", "1"]


def parse(words: list[str]) -> BenchmarkOptions:
    return BenchmarkOptions(**given(COMMAND.read(words), BenchmarkOptions))


def measured(*argv):
    fresh_runtime()
    return benchmark(parse([str(word) for word in argv]))


@pytest.mark.ranks
def test_an_export_of_ours(folder, logged):
    report = measured(folder, "--num_inference_steps", 1, "--images", 3, "--batch_size", 2, "--warmup", 1)
    assert EMULATOR_NOTE in logged.messages
    assert report.emulated and report.cost is None
    assert report.compiled.pipeline_class == "optimum_pixart_neuron.runtime.pixart.NeuronPixArtSigmaPipeline"
    assert (report.compiled.parallel_mode, report.compiled.ranks, report.compiled.has_manifest) == ("context", 2, True)
    assert (report.compiled.height, report.compiled.width) == (256, 256)
    assert len(report.samples) == report.options.images == 2, "whole requests, and the warm-up is not measured"
    # Each has two chunks of the compiled batch. The warm-up had the same prompts, and their embeddings would be kept.
    for sample in report.samples:
        counts = {name: len(calls) for name, calls in sample.calls.items()}
        assert counts == {"text_encoder": 4, "transformer": 2, "vae_decoder": 2}
        assert sum(sample.components.values()) + sample.host_seconds == pytest.approx(sample.end_to_end)
        assert all(seconds >= 0 for seconds in sample.host.values())
        assert sample.host["scheduler"] > 0 and sample.host["picture"] > 0
    assert 0 < report.summary.host_share < 1
    assert report.summary.images_per_second == pytest.approx(4 / sum(each.end_to_end for each in report.samples))
    assert report.load > 0 and report.memory.main > 2**27 and report.memory.largest_rank > 2**26
    assert report.plan is None and "pixart-plan --instance_type trn1.32xlarge" in report.plan_missing
    assert report.versions["optimum-neuron"] and report.machine.cpus >= 1


@pytest.mark.ranks
@pytest.mark.soak
def test_an_export_of_the_stock_exporter_in_our_class(stock_folder):
    report = measured(stock_folder, *FEW)
    assert report.compiled.pipeline_class == "optimum_pixart_neuron.runtime.pixart.NeuronPixArtSigmaPipeline"
    assert (report.compiled.parallel_mode, report.compiled.ranks, report.compiled.has_manifest) == (None, 1, False)
    assert report.compiled.instance == "trn1.32xlarge", "it records the family"
    assert [len(sample.calls["transformer"]) for sample in report.samples] == [2, 2]
    assert report.plan is None, "no figure of the plan stands beside emulated times"


@pytest.mark.ranks
@pytest.mark.soak
def test_an_export_of_the_stock_exporter_in_the_stock_class(stock_folder, tmp_path):
    """As typed, in a process of its own."""
    result = tmp_path / "result.json"
    argv = [*MODULE, str(stock_folder), *FEW, "--stock", "--json", str(result)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == EMULATOR_NOTE
    assert "outside compiled graphs" in done.stdout and "$" not in done.stdout
    content = json.loads(result.read_text())
    assert content["schema_version"] == 1 and content["emulated"] is True and "cost" not in content
    assert content["compiled"]["pipeline_class"] == "optimum.neuron.modeling_diffusion.NeuronPixArtSigmaPipeline"
    assert len(content["samples"]) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: OUT"),
        (["out", "--images", "0"], "--images 0: must be at least 1"),
        (["out", "--warmup", "-1"], "--warmup -1: must be at least 0"),
        (["out", "--price_per_hour", "free"], "--price_per_hour free: must be a number"),
        (["out", "--steps", "3"], "unrecognized arguments: --steps 3"),
    ],
)
def test_flags_that_cannot_be_read(argv, message, capsys):
    assert command_refusal(COMMAND, argv, capsys) == message


@pytest.mark.seconds
def test_what_is_no_export_in_one_line(tmp_path, capsys):
    message = command_refusal(COMMAND, [str(tmp_path), "--json", str(tmp_path / "result.json")], capsys)
    assert message.startswith(f"{tmp_path}: it holds no model_index.json") and list(tmp_path.iterdir()) == []
    with pytest.raises(ArtifactError, match="there is no such folder, and it is no repository id"):
        measured("no such/folder at/all")


@pytest.mark.seconds
def test_the_emulator_has_no_cost(folder):
    with pytest.raises(InvalidExportOption, match="--price_per_hour 12.5: the emulator's times have no cost"):
        measured(folder, "--price_per_hour", "12.5")


TORCHSCRIPT_ERROR = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
        return torch.ops.neuron.execute(self.handle, inputs)
               ~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
RuntimeError: RuntimeError: rank 1 of 2 died (killed by SIGKILL)

At:
  modeling_diffusion.py(1385): forward
"""


@pytest.mark.parametrize("message", ["rank 1 of 2 died (killed by SIGKILL)", TORCHSCRIPT_ERROR])
def test_a_program_that_fails_is_one_line(message):
    def pipeline(*_, **__):
        raise RuntimeError(message)

    with pytest.raises(DeviceError) as caught:
        _run(pipeline, _request(parse(["out"]), COMPILED, 1), number=0)
    assert str(caught.value) == "the pipeline failed: rank 1 of 2 died (killed by SIGKILL)"


def test_prompts_that_are_kept_are_counted(stand_in):  # noqa: F811
    """Two that are equal, twice, and their negatives."""
    request = _request(parse(["out", "--num_inference_steps", "1", "--warmup", "0"]), COMPILED, 1)
    _, prompts = _measure(stand_in(), request, requests=2, kept=4)
    assert (prompts.hits, prompts.misses) == (6, 2)


COMPILED = SimpleNamespace(prompts=2, images_per_prompt=3, takes_any_batch=True, steps=20, guidance_scale=4.5)


def test_a_request_keeps_every_copy_busy_unless_told_otherwise():
    assert _request(parse(["out"]), COMPILED, 4).images == 4 * 2 * 3
    assert _request(parse(["out", "--stock"]), COMPILED, 4).images == 2 * 3
    assert _request(parse(["out", "--batch_size", "5"]), COMPILED, 4).images == 5 * 3
    assert _request(parse(["out"]), COMPILED, 1).images == 2 * 3


@pytest.mark.parametrize("flag", ["--batch_size", "--num_images_per_prompt"])
def test_stock_programs_and_the_stock_class_run_the_compiled_batch_only(flag):
    stock_programs = SimpleNamespace(**{**vars(COMPILED), "takes_any_batch": False})
    with pytest.raises(InvalidExportOption, match=f"{flag} 7: the stock class runs the compiled . only"):
        _request(parse(["out", "--stock", flag, "7"]), COMPILED, 1)
    with pytest.raises(InvalidExportOption, match=f"{flag} 7: an export of the stock exporter runs the compiled ."):
        _request(parse(["out", flag, "7"]), stock_programs, 1)


def test_guidance_is_that_of_the_export_unless_told_otherwise():
    few = CallDefaults(steps=4, guidance_scale=0.5)
    for guided, call, steps, scale in ((True, None, 20, 4.5), (False, None, 20, 1), (True, few, 4, 0.5)):
        subject = Subject(Path("out"), SimpleNamespace(guided=guided, call=call))
        assert (subject.steps, subject.guidance_scale) == (steps, scale)
    few_steps = SimpleNamespace(**{**vars(COMPILED), "steps": 4, "guidance_scale": 1})
    request = _request(parse(["out"]), few_steps, 1)
    assert (request.num_inference_steps, request.guidance_scale) == (4, 1)
    request = _request(parse(["out", "--guidance_scale", "2", "--num_inference_steps", "3"]), few_steps, 1)
    assert (request.num_inference_steps, request.guidance_scale) == (3, 2)
