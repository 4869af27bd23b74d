"""The manifest file: what it takes, what it refuses, and that it is never half written."""

import json

import pytest

from optimum_pixart_neuron import files
from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest, installed_versions, listed_files
from optimum_pixart_neuron.artifact.manifest_records import ComponentRecord, SourceRecord, TensorRecord
from optimum_pixart_neuron.errors import ArtifactError
from optimum_pixart_neuron.files import FileRecord

from ..hub.exports import manifest_of


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    (tmp_path / "weights").write_bytes(b"weights")
    file = FileRecord.of(tmp_path / "weights")
    component = ComponentRecord(
        ranks=8,
        mode="context",
        inputs=(TensorRecord(name="hidden_states", shape=(2, 4, 128, 128), dtype="float32"),),
        outputs=(TensorRecord(name="out_hidden_states", shape=(2, 8, 128, 128), dtype="float32"),),
        source=SourceRecord(model="some/model", revision="abc", files={"model.safetensors": file}),
        inputs_digest="d1",
    )
    return manifest_of(
        ranks=8,
        options={"batch_size": 1, "height": None},
        components={"transformer": component},
        copied={"scheduler": SourceRecord(model="some/model", revision="abc", files={})},
        files={"transformer/model.neuron": file},
    )


def test_what_is_written_is_read(manifest, tmp_path):
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST_FILE).read_text())["schema_version"] == 1


def test_a_folder_without_a_manifest_has_none(tmp_path):
    assert Manifest.read(tmp_path) is None


def test_a_newer_schema_says_what_to_update(manifest, tmp_path):
    newer = {**json.loads(manifest.model_dump_json()), "schema_version": 2, "added": 1}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(newer))
    with pytest.raises(ArtifactError, match="schema version 2, this package reads 1; update optimum-pixart-neuron"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged: .*; export or download it again"),
        (b"[]", "is damaged"),
        (b'{"schema_version": 1}', " has no model; export"),
        (b"\xff", "is damaged"),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_one_line(tmp_path, content, message):
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as refusal:
        Manifest.read(tmp_path)
    assert "\n" not in str(refusal.value) and str(tmp_path) in str(refusal.value)


@pytest.mark.seconds
def test_a_changed_bit_is_found_wherever_it_is(manifest, tmp_path):
    manifest.write(tmp_path)
    path = tmp_path / MANIFEST_FILE
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 61):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ArtifactError):
            raise AssertionError(Manifest.read(tmp_path))


def test_one_without_a_digest_is_read(manifest, tmp_path):
    (tmp_path / MANIFEST_FILE).write_text(manifest.model_dump_json())
    assert Manifest.read(tmp_path) == manifest


def test_it_is_replaced_whole(manifest, tmp_path, monkeypatch):
    manifest.write(tmp_path)

    def fail(path, *, below=True):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush", fail)
    with pytest.raises(OSError):
        manifest.model_copy(update={"ranks": 4}).write(tmp_path)
    assert Manifest.read(tmp_path).ranks == 8


def test_files_that_a_manifest_has_to_list(tmp_path):
    for name in (MANIFEST_FILE, "README.md", ".gitattributes", ".cache/huggingface/x", "vae/README.md", "a/b/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert listed_files(tmp_path) == ["a/b/c", "vae/README.md"]


def test_versions_are_those_of_installed_distributions():
    found = installed_versions()
    assert {"optimum-pixart-neuron", "optimum-neuron", "torch", "diffusers"} <= set(found)


def test_a_file_resembles_its_record_by_size_and_sample(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    record = FileRecord.of(path)
    assert record.resembles(path)
    path.write_bytes(bytes(99_999) + b"1")
    assert not record.resembles(path)
    path.write_bytes(bytes(99_999))
    assert not record.resembles(path)
    path.unlink()
    assert not record.resembles(path)
