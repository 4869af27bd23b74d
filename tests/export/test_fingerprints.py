"""Fingerprints of the checkpoint's files: read once, in time with what is compiled, and ended with it."""

import os
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from optimum_pixart_neuron.checkpoint.address import Address
from optimum_pixart_neuron.checkpoint.sources import Source
from optimum_pixart_neuron.errors import CheckpointError
from optimum_pixart_neuron.export import fingerprints
from optimum_pixart_neuron.export.fingerprints import Fingerprints
from optimum_pixart_neuron.files import FileRecord, full_digest, records_of


def source_of(folder: Path, *, revision: str | None) -> Source:
    return Source(address=Address(flag="--model", name="m", folder=folder), folder=folder, revision=revision)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the files that are read whole."""
    names = []

    def read(folder, wanted, **options):
        names.extend(wanted)
        return records_of(folder, wanted, **options)

    monkeypatch.setattr(fingerprints, "records_of", read)
    return names


def test_a_checkpoint_is_read_whole_once(tmp_path, reads):
    (tmp_path / "vae").mkdir()
    file = tmp_path / "vae" / "weights.safetensors"
    file.write_bytes(b"weights")
    source = source_of(tmp_path / "vae", revision="abc")
    for _ in range(2):
        found = Fingerprints(tmp_path / "memory").record(source, [file])
    assert reads == ["weights.safetensors"]
    assert (found.model, found.revision) == ("m", "abc")
    assert found.files == {"weights.safetensors": FileRecord.of(file)}
    times = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = Fingerprints(tmp_path / "memory").record(source, [file])
    assert changed.files["weights.safetensors"].sha256 == full_digest(file)
    (tmp_path / "memory").write_text("damaged")
    assert Fingerprints(tmp_path / "memory").record(source, [file]) == changed


def test_a_file_of_the_download_cache_is_known_by_its_name(tmp_path, reads):
    blob, snapshot = tmp_path / "blobs" / ("ab" * 32), tmp_path / "snapshots" / "vae"
    blob.parent.mkdir()
    snapshot.mkdir(parents=True)
    blob.write_bytes(b"weights")
    (snapshot / "weights.safetensors").symlink_to(blob)
    small = blob.with_name("cd" * 20)  # a git blob's name, not of its content alone
    small.write_bytes(b"{}")
    (snapshot / "config.json").symlink_to(small)
    source = source_of(snapshot, revision="abc")
    files = Fingerprints(tmp_path / "memory").record(source, snapshot.iterdir()).files
    assert files["weights.safetensors"].sha256 == "ab" * 32 and files["weights.safetensors"].size == 7
    assert files["config.json"].sha256 == full_digest(small)
    assert reads == ["config.json"]


def test_a_checkpoint_written_during_the_export_is_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    files = Fingerprints(tmp_path / "memory")
    files.record(source_of(tmp_path, revision=None), [file])
    files.check_unchanged([file])
    file.write_bytes(b"others!")
    with pytest.raises(CheckpointError, match="weights.safetensors was changed during the export"):
        files.check_unchanged([file])


def read_for_minutes(path, advance):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        advance(0)
    raise AssertionError(f"{path} was read to its end")


def test_reading_ends_with_what_it_is_read_beside(tmp_path, monkeypatch):
    """An interrupt does not wait for the end of a file of many gigabytes."""
    monkeypatch.setattr(FileRecord, "of", read_for_minutes)
    (tmp_path / "weights.safetensors").touch()
    found = Fingerprints(tmp_path / "memory")
    with ThreadPoolExecutor(1) as reader, pytest.raises(KeyboardInterrupt), found.read_beside():
        reading = reader.submit(found.record, source_of(tmp_path, revision=None), [tmp_path / "weights.safetensors"])
        raise KeyboardInterrupt
    with pytest.raises(CancelledError):
        reading.result()
    assert not (tmp_path / "memory").exists()


def test_an_interrupt_ends_all_that_is_read(tmp_path, monkeypatch):
    other, ended = Event(), []

    def read(path, advance):
        if path.name == "first":
            other.wait(10)
            raise KeyboardInterrupt
        other.set()
        try:
            read_for_minutes(path, advance)
        except BaseException as error:
            ended.append(type(error))
            raise

    monkeypatch.setattr(FileRecord, "of", read)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for name in ("first", "second"):
        (tmp_path / name).touch()
    with pytest.raises(KeyboardInterrupt):
        records_of(tmp_path, ["first", "second"], title="")
    assert ended == [CancelledError]
