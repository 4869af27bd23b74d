"""The command as a user runs it: a page, figures as JSON, a picture, and one-line errors before any work."""

import json
import os
import subprocess
import sys

import pytest

from optimum_pixart_neuron.commands import pixart_plan
from optimum_pixart_neuron.commands.pixart_plan import COMMAND
from optimum_pixart_neuron.hardware import INSTANCES

from ..refusals import command_refusal


@pytest.mark.soak
def test_without_arguments_a_page():
    """The advice and a row for each instance, within 80 columns; no library says anything beside it."""
    module = [sys.executable, "-m", "optimum_pixart_neuron.commands.pixart_plan"]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(module, capture_output=True, text=True, env=environment, check=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert done.stderr == "" and len(lines) < 40 and max(map(len, lines)) <= 80
    assert "predictions" in " ".join(lines[:2]) and lines[2].startswith("Lowest latency: ")
    assert [line.split()[0] for line in lines if line.lstrip().startswith(tuple(INSTANCES))] == list(INSTANCES)


@pytest.fixture
def planned(tmp_path, capsys):
    """Run the command, which ends well: what it writes as JSON, and what it prints beside that."""

    def run(*arguments: str) -> tuple[dict, str]:
        file = tmp_path / "plan.json"
        assert COMMAND.main([*arguments, "--json", str(file)]) == 0
        return json.loads(file.read_text()), capsys.readouterr().out

    return run


def test_inputs_that_the_host_cannot_hold(monkeypatch, capsys):
    def plan(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr("optimum_pixart_neuron.planner.prediction.plan", plan)
    assert "does not hold the inputs of one run" in command_refusal(COMMAND, ["--instance_type", "trn2"], capsys)


@pytest.mark.seconds
def test_a_checkpoint_is_planned_and_a_picture_is_announced(planned, tiny_checkpoint, tmp_path):
    pytest.importorskip("matplotlib")
    model, picture = str(tiny_checkpoint), tmp_path / "plan.svg"
    found, out = planned("--model", model, "--instance_type", "inf2.xlarge", "trn1.2xlarge", "--plot", str(picture))
    assert "Lowest latency: " in out
    assert out.splitlines()[-1] == f"wrote {picture}: 2 instance(s)"
    assert (found["model"], found["fleets"]) == (model, [])
    assert (found["request"]["height"], found["request"]["width"]) == (256, 256)
    assert picture.read_text().startswith("<?xml")


@pytest.mark.soak
def test_json_holds_every_figure(capsys):
    asked = ["--instance_type", "inf2.24xlarge", "trn2", "--height", "512", "--price_per_hour", "trn2=36"]
    assert COMMAND.main([*asked, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    rows = {row["instance"]: row for row in planned["rows"] if row["is_default"]}
    default = rows["inf2.24xlarge"]
    assert [default[key] for key in ("mode", "ranks", "exchange", "fits")] == ["context", 8, "all-to-all", True]
    assert set(default["components"]) == {"text_encoder", "transformer", "vae_decoder"}
    parts = default["components"].values()
    assert sum(part["expected_s"] for part in parts) == pytest.approx(default["expected_s"])
    assert set(default["components"]["transformer"]["bound_s_per_run"]) == {"matmul", "softmax", "hbm", "link"}
    assert [each["fitted"] for each in planned["published"]["measurements"]] == [True, True, False, False]
    assert rows["trn2.48xlarge"]["price"] == {"per_hour": 36.0, "source": "--price_per_hour", "date": None}
    assert default["price"]["date"] == "2026-08-26"
    assert all(row["cost_per_1000"] for row in planned["rows"])
    assert planned["advice"].startswith("Lowest latency: ") and " Lowest cost: " in planned["advice"]


@pytest.mark.soak
def test_four_instances_make_four_times_the_images_for_four_times_the_price(planned, tiny_checkpoint):
    """Each is deployed for most images a second."""
    instances = ["inf2.24xlarge", "trn1.2xlarge"]
    found, out = planned("--model", str(tiny_checkpoint), "--instance_type", *instances, "--replicas", "4")
    assert [fleet["instance"] for fleet in found["fleets"]] == instances
    for fleet in found["fleets"]:
        rows = [row for row in found["rows"] if row["instance"] == fleet["instance"] and row["fits"]]
        best = max(rows, key=lambda row: row["images_per_second"])
        assert (fleet["mode"], fleet["ranks"]) == (best["mode"], best["ranks"])
        assert fleet["images_per_second"] == pytest.approx(4 * best["images_per_second"])
        assert fleet["cost_per_hour"] == pytest.approx(4 * best["price"]["per_hour"])
        assert fleet["pipelines"] == 4 * best["pipelines"]
        assert f"4 x {fleet['instance']}: {fleet['images_per_second']:.3f} images/s" in " ".join(out.split())


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instance_type", "p5.48xlarge"], "unknown instance 'p5.48xlarge'"),
        (["--height", "1000"], "--height 1000 is not a positive multiple of 16"),
        (
            ["--instance_type", "trn2", "--tensor_parallel_size", "7"],
            "--tensor_parallel_size 7: cores of trn2.48xlarge form groups of 1, 2, 4,",
        ),
        (
            ["--instance_type", "trn2", "--tensor_parallel_size", "500"],
            "--tensor_parallel_size 500: trn2.48xlarge has 64 cores",
        ),
        (["--tensor_parallel_size", "1", "--parallel_mode", "data"], "--parallel_mode data has no meaning on 1 rank"),
        (["--torch_dtype", "float16"], "--torch_dtype float16: T5 overflows"),
        (["--efficiency", "20"], "--efficiency 20: must be at most 1"),
        (["--price_per_hour", "12"], "--price_per_hour 12 is for one --instance_type"),
        (["--price_per_hour", "inf2.xlarge=free"], "--price_per_hour inf2.xlarge=free: free is not a positive number"),
        (["--instance_type", "inf2", "--price_per_hour", "trn1=3"], "trn1.32xlarge is not among the --instance_type"),
        (["--price_per_hour", "tpu=3"], "--price_per_hour tpu=3: unknown instance 'tpu'"),
        (["--model", "./nowhere"], "--model ./nowhere: no such folder"),
        (["--plot", "plan.jpg"], "--plot plan.jpg: the name must end in .png, .svg or .pdf"),
        (["--plot", "no/where/plan.png"], "--plot no/where/plan.png: there is no folder"),
        (["--json", "no/where/plan.json"], "--json no/where/plan.json: there is no folder"),
        (["--json", "."], "--json .: is a folder; name a file in it"),
    ],
    ids=" ".join,
)
def test_bad_values_are_one_line(arguments, message, capsys):
    assert message in command_refusal(COMMAND, arguments, capsys)


def test_a_plot_without_matplotlib_is_refused_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pixart_plan, "find_spec", lambda name: None)
    monkeypatch.setattr(pixart_plan, "_checkpoint", lambda *_, **__: pytest.fail("planned"))
    monkeypatch.chdir(tmp_path)  # a long path is cut
    message = command_refusal(COMMAND, ["--plot", "plan.png"], capsys)
    assert message == "--plot plan.png: needs matplotlib: pip install 'optimum-pixart-neuron[benchmark]'"
    assert not list(tmp_path.iterdir())
