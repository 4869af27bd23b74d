"""The command as a user runs it: fast, without torch, one-line errors before any work."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimum_pixart_neuron.commands import pixart_plan as command
from optimum_pixart_neuron.commands.pixart_plan import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "optimum_pixart_neuron.commands.pixart_plan", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
    )


def test_every_instance_within_three_seconds():
    before = os.times()
    started = time.monotonic()
    result = run()
    elapsed, after = time.monotonic() - started, os.times()
    assert result.returncode == 0 and not result.stderr
    # Processor time where the machine is busy with other things.
    assert min(elapsed, after.children_user - before.children_user) < 3
    assert max(map(len, result.stdout.splitlines())) <= 118
    for words in ("inf2.48xlarge: 24 logical cores", "trn2.48xlarge", "no known price", "predictions", "Advice: "):
        assert words in result.stdout
    assert result.stdout.count("context *") + result.stdout.count("one core *") == 10


def test_torch_is_not_imported(tiny_checkpoint):
    script = (
        "import sys; from optimum_pixart_neuron.commands.pixart_plan import main;"
        " status = main(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr); sys.exit(status)"
    )
    arguments = ["--model", str(tiny_checkpoint), "--json"]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stderr == "False\n"
    planned = json.loads(result.stdout)
    assert planned["model"] == str(tiny_checkpoint)
    assert (planned["request"]["height"], planned["request"]["width"]) == (256, 256)


def test_json_holds_every_figure(tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert main(["--instance_type", "inf2.24xlarge", "trn2", "--height", "512", "--json", str(file)]) == 0
    assert "Advice: " in capsys.readouterr().out  # beside the file there is the table
    planned = json.loads(file.read_text())
    assert {row["instance"] for row in planned["rows"]} == {"inf2.24xlarge", "trn2.48xlarge"}
    (default,) = [row for row in planned["rows"] if row["instance"] == "inf2.24xlarge" and row["is_default"]]
    assert (default["mode"], default["ranks"], default["exchange"], default["fits"]) == (
        "context",
        8,
        "all-to-all",
        True,
    )
    assert set(default["components"]) == {"text_encoder", "transformer", "vae_decoder"}
    assert set(default["components"]["transformer"]["bound_s_per_run"]) == {"matmul", "softmax", "hbm", "link"}
    assert default["price"]["date"] == "2026-08-26"
    assert [each["fitted"] for each in planned["published"]["measurements"]] == [True, True, False, False]
    assert all(row["cost_per_1000"] is None for row in planned["rows"] if row["instance"] == "trn2.48xlarge")


def test_what_does_not_fit_says_so(capsys):
    assert main(["--instance_type", "inf2.xlarge", "--torch_dtype", "float32", "--tensor_parallel_size", "1"]) == 0
    out = capsys.readouterr().out
    assert "too big" in out
    assert "Advice: nothing fits" in out


def test_advice_names_the_lowest_of_what_fits(capsys):
    arguments = ["--instance_type", "inf2.48xlarge", "trn2", "--vae_tile_size", "512", "--json"]
    assert main(arguments) == 0
    planned = json.loads(capsys.readouterr().out)
    rows = [row for row in planned["rows"] if row["fits"]]
    fastest = min(rows, key=lambda row: row["expected_s"])
    cheapest = min((row for row in rows if row["cost_per_1000"]), key=lambda row: row["cost_per_1000"])
    assert f"{fastest['instance']} {fastest['mode']} on {fastest['ranks']} ranks" in planned["advice"]
    assert f"{cheapest['instance']} {cheapest['mode']} on {cheapest['ranks']} ranks" in planned["advice"]


def test_an_own_price(capsys):
    assert main(["--instance_type", "trn2", "inf2", "--price_per_hour", "trn2=36", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    prices = {row["instance"]: row["price"] for row in rows}
    assert prices["trn2.48xlarge"] == {"per_hour": 36.0, "source": "--price_per_hour", "date": None}
    assert prices["inf2.48xlarge"]["per_hour"] == 12.98127


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instance_type", "p5.48xlarge"], "unknown instance 'p5.48xlarge'"),
        (["--height", "1000"], "--height 1000 is not a positive multiple of 16"),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1"),
        (["--tensor_parallel_size", "7"], "--tensor_parallel_size 7 does not divide the 64 attention heads"),
        (["--tensor_parallel_size", "500"], "--tensor_parallel_size 500: trn2.48xlarge has 64 cores"),
        (["--parallel_mode", "pipeline"], "--parallel_mode pipeline: choose context, tensor or data"),
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
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2 and not captured.out
    assert captured.err.startswith("optimum-cli neuron pixart-plan: error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_a_plot_without_matplotlib_is_refused_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(command, "plan", lambda *_, **__: pytest.fail("planned"))
    file = tmp_path / "plan.png"
    assert main(["--plot", str(file)]) == 2
    error = f"--plot {file}: needs matplotlib: pip install 'optimum-pixart-neuron[benchmark]'\n"
    assert capsys.readouterr().err.endswith(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("instances", [["trn2"], ["inf2.xlarge", "inf2.48xlarge"], ["all"]], ids=" ".join)
def test_the_plot_is_a_picture(instances, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from PIL import Image

    file = tmp_path / "plan.png"
    assert main(["--instance_type", *instances, "--plot", str(file)]) == 0
    with Image.open(file) as picture:
        assert min(picture.size) > 600
        assert len(picture.convert("RGB").getcolors(picture.size[0] * picture.size[1])) > 20


def test_a_reader_that_stops_early():
    script = f"{sys.executable} -m optimum_pixart_neuron.commands.pixart_plan | head -n 3"
    result = subprocess.run(script, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert len(result.stdout.splitlines()) == 3
    assert "Traceback" not in result.stderr
