"""`optimum-cli neuron cache` and exports of several sizes: real commands, as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.compilers import StandInCompiler

from .test_compile_cache import REPOSITORY, machine  # noqa: F401

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

AS_ON_AN_INSTANCE = """
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
ensure_sdk()
from optimum.commands.optimum_cli import main
main()
"""
"""The host's `synchronize` is there with the SDK alone."""


def run(*command: object) -> str:
    """What it prints; it has to succeed."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def optimum_cli(*arguments: object) -> str:
    return run(Path(sys.executable).with_name("optimum-cli"), *arguments)


def export(compiler: StandInCompiler, checkpoint: Path, output: Path, *sizes: str) -> tuple[int, str]:
    """Calls of the compiler, and what was printed."""
    before = len(compiler.calls)
    options = ("--sequence_length", 16, "--tensor_parallel_size", 2, "--disable-validation", "--sizes", *sizes)
    printed = optimum_cli("export", "neuron", "--model", checkpoint, output, *options)
    return len(compiler.calls) - before, printed


def test_sizes_are_compiled_once_for_all_machines(machine, hub, tiny_checkpoint, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("CUSTOM_CACHE_REPO", REPOSITORY)
    two = ("128x128", "192x128")

    first = machine("the first")
    calls, _ = export(first, tiny_checkpoint, tmp_path / "first", *two)
    assert calls == 5, "a text encoder, and transformer and decoder of each size"
    run(sys.executable, "-c", AS_ON_AN_INSTANCE, "neuron", "cache", "synchronize")
    assert sum(name.endswith("+pixart/model.neuron") for name in hub.files(REPOSITORY)) == 3

    second = machine("the second")
    calls, printed = export(second, tiny_checkpoint, tmp_path / "second", *two)
    assert (calls, printed.count("taken from the compile cache"), "compiling" in printed) == (0, 3, False)
    for file in sorted((tmp_path / "first").rglob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "second" / file.relative_to(tmp_path / "first")).read_bytes()
    calls, _ = export(second, tiny_checkpoint, tmp_path / "third", *two, "128x192")
    assert calls == 2, "transformer and decoder of the size that is new"

    configurations = {
        str(file.relative_to(tiny_checkpoint)): file.read_bytes() for file in sorted(tiny_checkpoint.rglob("*.json"))
    }
    hub.create("somebody/fine-tune", configurations)
    lookup = ("neuron", "cache", "lookup", "somebody/fine-tune", "--task", "text-to-image")
    assert "trn1 128x128 128x192 context" in optimum_cli(*lookup)
    assert optimum_cli(*lookup, "--batch_size", 4) == "No cached entries found for somebody/fine-tune.\n"
