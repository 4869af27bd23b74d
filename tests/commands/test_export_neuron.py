"""The export process around the exporter: what it prepares, and what an error of each kind becomes."""

import os
import signal
import sys
import types

import pytest

from optimum_pixart_neuron import errors
from optimum_pixart_neuron.commands import export_neuron as process
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

ARGV = ["--model", "some/model", "out"]


@pytest.fixture
def exporter(monkeypatch):
    """Stands in for the exporter and the SDK.

    `raises` is what the export ends with, `seen` what it was given, `sdk` the SDK there is, `asked` the instance that
    the SDK was prepared for.
    """
    stand_in = types.SimpleNamespace(raises=None, seen=[], asked=[])
    stand_in.sdk = NeuronSdk(emulated=True, instance="trn1.32xlarge")

    def export(options):
        stand_in.seen.append((options, os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE")))
        if stand_in.raises is not None:
            raise stand_in.raises

    def ensure_sdk(instance):
        stand_in.asked.append(instance)
        return stand_in.sdk

    module = types.ModuleType("optimum_pixart_neuron.export.exporter")
    module.export = export
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(process, "ensure_sdk", ensure_sdk)
    # What optimum-neuron leaves in the environment of the parent process.
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")
    previous = signal.getsignal(signal.SIGTERM)
    yield stand_in
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize(
    ("argv", "sdk", "target"),
    [
        ([], NeuronSdk(emulated=True, instance="trn1.32xlarge"), "trn1"),
        ([], NeuronSdk(emulated=True, instance="trn2.48xlarge"), "trn2"),
        (["--instance_type", "trn2"], NeuronSdk(emulated=True, instance="trn2.48xlarge"), "trn2"),
        (["--instance_type", "inf2.xlarge"], NeuronSdk(emulated=True, instance="inf2.xlarge"), "trn1"),
        (["--instance_type", "trn2"], NeuronSdk(emulated=False, instance=None), "trn2"),
        ([], NeuronSdk(emulated=False, instance=None), "trn1"),
    ],
    ids=str,
)
def test_the_sdk_is_prepared_for_the_chosen_instance(argv, sdk, target, exporter):
    exporter.sdk = sdk
    assert process.main([*ARGV, *argv]) == 0
    assert exporter.asked == [argv[-1] if argv else None]
    ((options, override),) = exporter.seen
    assert (options.model, override) == ("some/model", target)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.PixArtNeuronError("broken"), 1, "error: broken"),
        (errors.InvalidExportOption("--height 10: no"), 2, "error: --height 10: no"),
        (errors.CheckpointError("no vae"), 2, "error: no vae"),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_for_the_user_are_one_line_and_a_status(error, status, line, exporter, capsys):
    exporter.raises = error
    assert process.main(ARGV) == status
    assert capsys.readouterr().err == f"optimum-cli export neuron: {line}\n"


def test_a_defect_of_ours_keeps_its_traceback(exporter):
    exporter.raises = KeyError("bug")
    with pytest.raises(KeyError, match="bug"):
        process.main(ARGV)


def test_a_refused_flag_ends_before_anything_is_prepared(exporter, capsys):
    assert process.main([*ARGV, "--unet", "other"]) == 2
    assert capsys.readouterr().err.startswith("optimum-cli export neuron: error: --unet has no meaning")
    assert exporter.seen == exporter.asked == []


def test_termination_runs_the_cleanup(exporter):
    cleaned = []

    def export(_options):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    sys.modules["optimum_pixart_neuron.export.exporter"].export = export
    with pytest.raises(SystemExit) as end:
        process.main(ARGV)
    assert (end.value.code, cleaned) == (143, [True])
