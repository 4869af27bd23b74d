"""The command in one process: which exporter a model goes to, and how the child's end becomes the command's."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from optimum_pixart_neuron.commands import host
from optimum_pixart_neuron.commands.frame import run_child
from optimum_pixart_neuron.commands.host import PixArtNeuronExportCommand, extend_host_command
from tests.checkpoints import refused

NASTY = ["with space", 'quo"te', "apos'trophe", "semi;colon && true", "$HOME `id`", "star*", "", "line\nbreak", "ünï"]


@pytest.fixture
def recorder(tmp_path, monkeypatch) -> Path:
    """Stands in for the export process: writes down its arguments and ends with STATUS."""
    record = tmp_path / "argv.json"
    (tmp_path / "recording_export.py").write_text(
        "import json, os, sys\n"
        f"json.dump([sys.executable, *sys.argv[1:]], open({str(record)!r}, 'w'))\n"
        "sys.exit(int(os.environ.get('STATUS', '0')))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(host, "MODULE", "recording_export")
    return record


def _checkpoint(folder: Path, class_name: str = "PixArtSigmaPipeline") -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return folder


@pytest.fixture
def run(monkeypatch):
    """`run(argv, command_class)` as optimum-cli does; returns its exit status."""

    def run_command(argv, command_class=PixArtNeuronExportCommand) -> int | str | None:
        argv = list(map(str, argv))
        monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "neuron", *argv])
        parser = argparse.ArgumentParser()
        command_class(parser.add_subparsers())
        args = parser.parse_args(["neuron", *argv])
        with pytest.raises(SystemExit) as end:
            args.func(args).run()
        return end.value.code

    return run_command


@pytest.mark.parametrize("nasty", NASTY, ids=repr)
def test_arguments_reach_the_child_as_they_are(nasty, recorder, tmp_path, run):
    model = _checkpoint(tmp_path / f"model {nasty}")
    argv = ["--model", str(model), str(tmp_path / f"out {nasty}"), "--token", nasty]
    assert run(argv) == 0
    assert json.loads(recorder.read_text()) == [sys.executable, *argv]


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_the_childs_status_is_the_commands(status, recorder, tmp_path, monkeypatch, run):
    monkeypatch.setenv("STATUS", str(status))
    assert run(["-m", _checkpoint(tmp_path / "model"), "out"]) == status


def test_a_killed_child_gives_a_line_and_the_shells_status(tmp_path, monkeypatch, capfd):
    (tmp_path / "dying_export.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run_child("dying_export", "optimum-cli export neuron", []) == 137
    assert capfd.readouterr().err == (
        "optimum-cli export neuron: error: ended by SIGKILL; the machine may be out of memory.\n"
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "is a StableDiffusionPipeline, not a PixArt"),
        ("config.json", {"model_type": "bert"}, "is not a diffusers checkpoint: it has no model_index.json, and no"),
    ],
)
def test_another_model_is_refused_without_the_sdk_as_python_refuses_it(
    file, content, message, recorder, tmp_path, run, capsys
):
    (tmp_path / file).write_text(json.dumps(content))
    assert run(["-m", tmp_path, "out"]) == 2
    assert capsys.readouterr().err == f"optimum-cli export neuron: error: {refused(tmp_path)}\n"
    assert refused(tmp_path).startswith(f"--model {tmp_path} {message}")
    assert not recorder.exists()


@pytest.fixture
def host_command() -> type[BaseOptimumCLICommand]:
    """A command class shaped like a later host's: stricter parser, own defaults, a flag more; notes its arguments."""

    class HostCommand(BaseOptimumCLICommand):
        COMMAND = CommandInfo(name="neuron", help="host")
        ran: argparse.Namespace | None = None

        @staticmethod
        def parse_args(parser):
            parser.add_argument("-m", "--model", required=True)
            parser.add_argument("output")
            parser.add_argument("--instance_type", required=True)
            parser.add_argument("--torch_dtype", default="float32")
            parser.add_argument("--future_flag", nargs="*", help="Of a later host.")
            parser.add_argument("--transform", help="Begins as a flag of ours.")

        def run(self):
            type(self).ran = self.args
            raise SystemExit(5)

    extend_host_command(HostCommand)
    return HostCommand


@pytest.mark.parametrize("kind", ["PixArtSigmaPipeline", "PixArtAlphaPipeline"])
def test_beside_the_host_pixart_is_ours(kind, host_command, recorder, tmp_path, run):
    model = _checkpoint(tmp_path / "model", kind)
    assert run(["-m", model, "out", "--parallel_mode", "tensor"], host_command) == 0
    assert recorder.exists() and host_command.ran is None


def test_beside_the_host_other_models_are_the_hosts_with_all_its_flags(host_command, recorder, tmp_path, run):
    model = _checkpoint(tmp_path / "model", "FluxPipeline")
    flags = ["--instance_type", "trn1", "--future_flag", "a", "b", "--transform", "c"]
    assert run([*flags, "-m", model, "out"], host_command) == 5
    assert not recorder.exists()
    given = {"model": str(model), "output": "out", "instance_type": "trn1", "torch_dtype": "float32"}
    assert vars(host_command.ran) == {**given, "future_flag": ["a", "b"], "transform": "c"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-m", "MODEL", "out"], "the following arguments are required: --instance_type"),
        (["-m", "MODEL", "out", "--instance_type", "trn1", "--parallel_mode", "tensor"], "--parallel_mode"),
        (["out", "--instance_type", "trn1"], "the following arguments are required: -m/--model"),
        (["out", "-m"], "argument -m/--model: expected one argument"),
    ],
)
def test_beside_the_host_its_own_parser_judges_other_models(
    argv, message, host_command, recorder, tmp_path, run, capsys
):
    model = _checkpoint(tmp_path / "model", "FluxPipeline")
    assert run([model if word == "MODEL" else word for word in argv], host_command) == 2
    assert host_command.ran is None and not recorder.exists()
    shown = capsys.readouterr().err
    assert shown.startswith("usage: optimum-cli export neuron") and message in shown


def test_the_help_is_the_hosts_and_one_group_of_ours(host_command, run, capsys):
    alone = argparse.ArgumentParser(prog="optimum-cli export neuron")
    vars(host_command)["_before_pixart_neuron"][0](alone)
    with pytest.raises(SystemExit) as end:
        run(["--help"], host_command)
    assert end.value.code == 0
    shown = capsys.readouterr().out
    hosts = alone.format_help().partition("options:")[2]
    own, ours = shown.partition("options:")[2].split("\nPixArt:\n")
    assert own.split() == hosts.split(), "not a word of the host's is changed"
    assert "Not for PixArt-Sigma" not in shown
    assert ours.split("  --")[0].split()[:3] == ["Compiled", "by", "optimum-pixart-neuron."]
    assert all(flag in ours for flag in ("--parallel_mode {context,tensor,data}", "--with_vae_encoder", "-O1"))
    assert "NeuronPixArtSigmaPipeline or NeuronPixArtAlphaPipeline loads it" in " ".join(ours.split())
    assert "--torch_dtype bfloat16" in " ".join(ours.split()) and "--torch_dtype {" not in ours


def test_extending_the_host_twice_changes_nothing_more(host_command):
    once = vars(host_command)["_before_pixart_neuron"]
    extend_host_command(host_command)
    assert vars(host_command)["_before_pixart_neuron"] is once


@pytest.mark.parametrize(
    ("number", "to_group", "status"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGHUP, False, 129)],
)
def test_signals_end_command_and_child_without_traceback(number, to_group, status, tmp_path, start):
    (tmp_path / "slow_export.py").write_text(
        "import os, sys, time\n"
        "try:\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    code = (
        "import sys\nfrom optimum_pixart_neuron.commands.frame import run_child\n"
        "sys.exit(run_child('slow_export', 'slow', []))\n"
    )
    command = start(sys.executable, "-c", code, PYTHONPATH=str(tmp_path))
    pid = int(command.stdout.readline())
    (os.killpg if to_group else os.kill)(command.pid, number)
    _, errors = command.communicate(timeout=20)
    assert command.returncode == status
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
