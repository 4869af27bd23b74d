"""`--push_to_hub`: asked about before anything is compiled, and what remains of a push that fails."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from optimum_pixart_neuron.errors import HubError
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.export.publish import publish
from optimum_pixart_neuron.neuron.sdk import NeuronSdk
from tests.refusals import refusal

from .exports import make_export
from .fake_hub import Fault

REPO = "user/pixart-sigma-neuron"
NO_DEVICE = NeuronSdk(emulated=False, instance=None)


@pytest.mark.parametrize(
    ("allowed", "token", "message"),
    [
        (False, "hf_writer", "the emulator's artifacts run on no Neuron device and are not pushed;"),
        (True, None, "there is no token; log in with `hf auth login` or set HF_TOKEN"),
        (True, "hf_reader", "the token may only read; give one that may write"),
    ],
    ids=["emulated", "no token", "token that reads"],
)
def test_what_cannot_be_pushed_is_not_compiled(hub, tmp_path, monkeypatch, allowed, token, message):
    """The model does not even exist; through the export itself, which a refusal ends in its first lines."""
    from optimum_pixart_neuron.export import exporter

    monkeypatch.setattr(exporter, "ensure_sdk", lambda: NeuronSdk(emulated=True, instance="trn1.32xlarge"))
    monkeypatch.delenv("HF_TOKEN")
    options = ExportOptions(
        model="no/such", output=tmp_path / "out", push_to_hub=REPO, token=token, allow_emulated=allowed
    )
    assert refusal(HubError, exporter.export, options).startswith(f"{REPO}: {message}")
    assert not (tmp_path / "out").exists() and hub.repositories == {}


def test_nothing_happens_without_the_flag(hub, export):
    publish(ExportOptions(model="m", output=export), NO_DEVICE)
    assert hub.requests == []


def test_a_push_that_fails_leaves_the_export_and_says_how_to_go_on(hub, export, logged):
    make_export(export, emulated=True)
    hub.faults.append(Fault("status", "/api/repos/create", status=403, times=1000))
    options = ExportOptions(model="m", output=export, push_to_hub=REPO, private=True, allow_emulated=True)
    assert refusal(HubError, publish, options, NO_DEVICE) == (
        f"{REPO}: the token may not do this: the fault that was asked for; the export is whole, in {export}: push it"
        f' later with NeuronPixArtSigmaPipeline.push_to_hub("{export}", "{REPO}", private=True, allow_emulated=True)'
    )
    hub.faults.clear()
    publish(options, NO_DEVICE)
    assert logged.messages[-1].startswith(f"pushed to {hub.url}/{REPO}/commit/")
    assert hub.repositories[REPO].private


def test_the_export_draws_the_picture_of_its_card_where_it_can_run(hub, export, logged, monkeypatch):
    drawn, options = [], ExportOptions(model="m", output=export, push_to_hub=REPO)

    def draw(module: str, argv: list[str]) -> int:
        drawn.append((module, argv))
        return 1 if len(drawn) == 1 else bool(Path(argv[0], "example.png").write_bytes(b"a picture") < 0)

    monkeypatch.setattr("optimum_pixart_neuron.export.publish.run_module", draw)
    for shown in (False, True):
        publish(options, NeuronSdk(emulated=False, instance="trn2.48xlarge"))
        files = hub.files(REPO)
        assert ("example.png" in files, b"](example.png)" in files["README.md"]) == (shown, shown)
    assert drawn == [("optimum_pixart_neuron.commands.example_child", [str(export)])] * 2
    assert find_spec(drawn[0][0])
    assert any("the model card has no picture" in message for message in logged.messages)
