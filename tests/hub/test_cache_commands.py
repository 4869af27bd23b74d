"""`optimum-cli neuron cache` and exports of several sizes: real commands, as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from .test_compile_cache import REPOSITORY, create_fine_tune, machine  # noqa: F401

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


def test_programs_of_several_sizes_are_sent_and_listed(machine, hub, tiny_checkpoint, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("CUSTOM_CACHE_REPO", REPOSITORY)
    compiler = machine("the first")
    options = ("--sequence_length", 16, "--tensor_parallel_size", 2, "--disable-validation")
    command = ("export", "neuron", "--model", tiny_checkpoint, tmp_path / "first", *options)
    optimum_cli(*command, "--sizes", "128x128", "192x128")
    assert len(compiler.calls) == 5, "a text encoder, and transformer and decoder of each size"
    run(sys.executable, "-c", AS_ON_AN_INSTANCE, "neuron", "cache", "synchronize")
    assert sum(name.endswith("+pixart/model.neuron") for name in hub.files(REPOSITORY)) == 3

    create_fine_tune(hub, tiny_checkpoint)
    lookup = ("neuron", "cache", "lookup", "somebody/fine-tune", "--task", "text-to-image")
    assert "trn1 128x128 128x192 context" in optimum_cli(*lookup)
    assert optimum_cli(*lookup, "--batch_size", 4) == "No cached entries found for somebody/fine-tune.\n"
