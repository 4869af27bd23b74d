"""Copies of artifacts: no folder, neither the pipeline's own nor another one, is ever damaged."""

import os
import shutil
from pathlib import Path

import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest, listed_files
from optimum_pixart_neuron.artifact.saving import save_copy
from optimum_pixart_neuron.errors import ArtifactError, OutputFull
from optimum_pixart_neuron.files import FileRecord

from ..hub.exports import content, make_export, stock_files

SCHEDULER = "scheduler/scheduler_config.json"
CHANGED = {SCHEDULER: b'{"_class_name": "Euler"}', "model_index.json": b'{"scheduler": ["diffusers", "Euler"]}'}


@pytest.fixture
def folder(tmp_path) -> Path:
    make_export(tmp_path / "own")
    return tmp_path / "own"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def assert_whole(folder: Path) -> None:
    manifest = Manifest.read(folder)
    assert {name: FileRecord.of(folder / name) for name in manifest.files} == manifest.files
    assert set(listed_files(folder)) >= set(manifest.files)
    assert not [name for name in content(folder) if name.endswith(".unfinished")]


def test_a_new_folder(folder, tmp_path):
    (folder / "README.md").write_text("mine")
    (folder / "stranger").write_text("stays here")
    save_copy(folder, tmp_path / "new" / "copy")
    expected = content(folder)
    del expected["stranger"]
    assert content(tmp_path / "new" / "copy") == expected


def test_a_folder_of_the_stock_exporter(tmp_path):
    make_export(tmp_path / "own", ranks=2)
    (tmp_path / "own" / MANIFEST_FILE).unlink()
    save_copy(tmp_path / "own", tmp_path / "copy", CHANGED)
    assert content(tmp_path / "copy") == {**stock_files(2), **CHANGED}


def test_its_own_folder(folder, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    before = times(folder)
    for target in (folder, tmp_path / "link", Path("own"), folder / "vae_decoder" / ".."):
        save_copy(folder, target)
        assert times(folder) == before
    save_copy(folder, tmp_path / "link", CHANGED)
    assert {name: content(folder)[name] for name in CHANGED} == CHANGED
    assert_whole(folder)
    changed = {path for path, time in times(folder).items() if path.is_file() and time != before.get(path)}
    assert changed == {folder / name for name in (*CHANGED, MANIFEST_FILE)}


def test_another_scheduler_in_a_copy(folder, tmp_path):
    before = content(folder)
    save_copy(folder, tmp_path / "copy", CHANGED)
    assert content(folder) == before
    copied = content(tmp_path / "copy")
    assert {name for name, data in copied.items() if data != before[name]} == {*CHANGED, MANIFEST_FILE}
    assert_whole(tmp_path / "copy")


def test_a_former_export_is_replaced_and_the_users_files_stay(folder, tmp_path):
    make_export(tmp_path / "copy", ranks=8, seed=1)
    (tmp_path / "copy" / "README.md").write_text("theirs")
    (folder / "README.md").write_text("mine")
    (tmp_path / "copy" / "notes").write_text("mine")
    mapped = (tmp_path / "copy" / "transformer" / "weights" / "tp1_sharded_checkpoint.safetensors").open("rb")
    before = mapped.read()
    save_copy(folder, tmp_path / "copy")
    mapped.seek(0)
    assert mapped.read() == before, "a pipeline that is loaded from there keeps what it has mapped"
    expected = {**content(folder), "README.md": b"theirs", "notes": b"mine"}
    assert content(tmp_path / "copy") == expected


@pytest.mark.parametrize("place", ["own/copy", "own/tokenizer", "."])
def test_folders_in_each_other(folder, tmp_path, place):
    before = times(tmp_path)
    with pytest.raises(ArtifactError, match="lie in each other; give another folder"):
        save_copy(folder, tmp_path / place)
    assert times(tmp_path) == before


def test_a_checkpoint_is_not_written_over(folder, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "transformer").mkdir(parents=True)
    (checkpoint / "transformer" / "config.json").write_text("theirs")
    (checkpoint / "tokenizer").mkdir()
    shutil.copy(folder / "tokenizer" / "spiece.model", checkpoint / "tokenizer")
    (tmp_path / "file").write_text("mine")
    before = times(tmp_path)
    with pytest.raises(ArtifactError) as error:
        save_copy(folder, checkpoint)
    assert str(error.value) == (
        f"{checkpoint} holds a transformer/config.json that no export wrote; move it away, or give another folder"
    )
    with pytest.raises(ArtifactError, match="is not a folder"):
        save_copy(folder, tmp_path / "file")
    assert times(tmp_path) == before


def test_the_download_cache_is_not_changed(folder, tmp_path):
    (folder / SCHEDULER).rename(tmp_path / "blob")
    (folder / SCHEDULER).symlink_to(tmp_path / "blob")
    before = content(folder)
    with pytest.raises(ArtifactError, match="is a link, as in the download cache; save into another folder"):
        save_copy(folder, folder, CHANGED)
    assert content(folder) == before
    save_copy(folder, tmp_path / "copy", CHANGED)
    assert not (tmp_path / "copy" / SCHEDULER).is_symlink()


def test_a_folder_that_is_gone(folder, tmp_path):
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match="is not there any more"):
        save_copy(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("number", [3, 12])
def test_a_disk_that_fills_up_leaves_nothing_that_loads(folder, tmp_path, monkeypatch, number):
    make_export(tmp_path / "copy", seed=1)
    copies, original = [], shutil.copyfile

    def copyfile(source, target):
        copies.append(source)
        if len(copies) == number:
            Path(target).write_bytes(b"half")
            raise OSError(28, os.strerror(28))
        return original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copyfile)
        with pytest.raises(OutputFull, match="copy cannot be written: No space left on device"):
            save_copy(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "model_index.json").exists()
    save_copy(folder, tmp_path / "copy")
    assert_whole(tmp_path / "copy")
