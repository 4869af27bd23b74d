"""The real optimum-cli with our hook: without the Neuron SDK, and beside the emulated one, which the host sees."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs optimum-cli, one command after the other, with the register files imported in a given order and the export
# process replaced by a recorder; prints the status of each.
DRIVER = """
import importlib, json, sys
import optimum_pixart_neuron.commands.host as host
from optimum_pixart_neuron import emulator
emulator.activate()
host.MODULE = "recording_export"
for name in ORDER:
    importlib.import_module(f"optimum.commands.register.{name}")
from optimum.commands.optimum_cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["optimum-cli", "export", "neuron", *words]
    try:
        print(main() or 0)
    except SystemExit as end:
        print(end.code)
"""
RECORDER = "import json, sys\njson.dump(sys.argv[1:], open(__file__ + '.json', 'w'))\nsys.exit(7)\n"
ORDERS = (("register_export", "register_pixart_neuron"), ("register_pixart_neuron", "register_export"))


@pytest.fixture
def desk(tmp_path) -> Path:
    """A folder for PYTHONPATH with the recorder, and a `python3` that notes how the host starts its exporter."""
    (tmp_path / "recording_export.py").write_text(RECORDER)
    host_python = tmp_path / "bin" / "python3"
    host_python.parent.mkdir()
    host_python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/host_argv"\n')
    host_python.chmod(0o755)
    return tmp_path


def _statuses(desk: Path, *commands: list[str], order=()) -> list[str]:
    path = os.pathsep.join([str(desk / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", f"ORDER = {order!r}\n{DRIVER}", json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(desk), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _checkpoint(folder: Path, class_name: str) -> Path:
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return folder


@pytest.mark.seconds
@pytest.mark.parametrize(
    "order", [ORDERS[0], pytest.param(ORDERS[1], marks=pytest.mark.soak)], ids=lambda order: order[0]
)
def test_with_the_sdk_pixart_sigma_is_ours_and_another_model_the_hosts_exporters(desk, order):
    quoted = _checkpoint(desk / "a model; with 'quotes\"", "PixArtSigmaPipeline")
    ours = ["--model", str(quoted), str(desk / "out put")]
    other = ["--model", str(_checkpoint(desk / "model", "FluxPipeline")), "out"]
    other += ["--instance_type", "trn2", "--unet", "other/unet", "--batch_size", "1", "-O1"]
    assert _statuses(desk, ours, other, order=order) == ["7", "0"]
    assert json.loads((desk / "recording_export.py.json").read_text()) == ours
    assert (desk / "host_argv").read_text().split() == ["-m", "optimum.exporters.neuron", *other]


@pytest.mark.soak
def test_help_lists_our_flags_and_adds_no_torch_to_what_the_host_imports(desk):
    """optimum-cli itself imports transformers and with it torch; a start without our hook imports the same."""
    code = (
        "import sys, contextlib, io\n"
        "import optimum.commands.optimum_cli\n"
        "from optimum.commands.register import register_export, register_neuron\n"
        "before = set(sys.modules)\n"
        "from optimum.commands.optimum_cli import main\n"
        "shown = io.StringIO()\n"
        "with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "assert '--parallel_mode' in shown.getvalue() and '--with_vae_encoder' in shown.getvalue()\n"
        "added = {name for name in set(sys.modules) - before if name.split('.')[0] in "
        "('torch', 'transformers', 'diffusers', 'numpy')}\n"
        "assert not added, added\n"
    )
    argv = [sys.executable, "-c", code, "export", "neuron", "--help"]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
