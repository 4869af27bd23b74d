"""The unfinished export beside an output: who may hold it, what outlives an interruption, what takes its place.

Components are folders of one small file here; `tests/faults` has real exports.
"""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
from optimum_pixart_neuron.artifact.manifest_records import ComponentRecord, SourceRecord
from optimum_pixart_neuron.errors import CompilationFailed, InvalidExportOption, OutputFull
from optimum_pixart_neuron.export import unfinished
from optimum_pixart_neuron.export.swap import exchange
from optimum_pixart_neuron.export.unfinished import UnfinishedExport, tidy, unfinished_export
from optimum_pixart_neuron.files import FileRecord, records_of

from ..hub.exports import manifest_of
from ..refusals import refusal

NAMES = ("first", "second")


def record(digest: str = "same") -> ComponentRecord:
    source = SourceRecord(model="some/model", revision=None, files={})
    return ComponentRecord(ranks=1, inputs=(), outputs=(), source=source, inputs_digest=digest)


def write(export: UnfinishedExport, name: str, digest: str = "same") -> None:
    """What compiling one component comes to."""
    (export.artifacts / name).mkdir()
    # Longer than what a sample reads of it.
    (export.artifacts / name / "model.neuron").write_text(f"{name} {digest}" + "x" * 500_000)
    export.finish(name, record(digest))


def write_all(export: UnfinishedExport, digest: str = "same") -> None:
    for name in NAMES:
        write(export, name, digest)
    seal(export)


def seal(export: UnfinishedExport) -> None:
    names = [f"{name}/model.neuron" for name in NAMES]
    export.index.write_text("{}")
    files = {"model_index.json": FileRecord.of(export.index), **records_of(export.artifacts, names, title="")}
    export.seal(manifest_of(components={}, files=files))


def make(output: Path, *, force: bool = False, digest: str = "same") -> list[str]:
    """A whole export; returns the components that were not kept."""
    written = []
    with unfinished_export(output, NAMES, force=force) as export:
        for name in NAMES:
            if not export.kept(name, lambda: record(digest)):
                write(export, name, digest)
                written.append(name)
        seal(export)
        export.put_in_place()
    return written


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EROFS, InvalidExportOption, "out cannot be made: Read-only file system"),
        (errno.ENOSPC, OutputFull, "has no room for the export: No space left on device"),
    ],
)
def test_a_file_system_that_takes_no_folder(tmp_path, monkeypatch, number, kind, message):
    """It may say that it does, as one over a network."""

    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind, match=message):
        make(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def interrupt(output: Path, error: BaseException, *, force: bool = False) -> None:
    """An export that finishes the first component and fails in the second."""
    with unfinished_export(output, NAMES, force=force) as export:
        write(export, "first")
        (export.artifacts / "second").mkdir()
        (export.artifacts / "second" / "half").write_text("half")
        (export.new_workdir() / "graph").write_text("intermediate")
        raise error


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


WHOLE = {"model_index.json", MANIFEST_FILE, "first/model.neuron", "second/model.neuron"}


@pytest.fixture
def output(tmp_path) -> Path:
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "my pixart"


def holder(output: Path) -> Path:
    return output.with_name(f".{output.name}.partial")


def test_a_whole_export_leaves_nothing_beside_it(output):
    assert make(output) == ["first", "second"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert below(output) == WHOLE


@pytest.mark.parametrize("error", [RuntimeError("compiler"), KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_an_interruption_keeps_what_is_finished_and_only_that(output, error, logged):
    with pytest.raises(type(error)):
        interrupt(output, error)
    kept = ("README", "lock", "artifacts/first/model.neuron", "finished/first.json")
    assert below(output.parent) == {f".{output.name}.partial/{name}" for name in kept}
    assert holder(output).stat().st_mode & 0o777 == 0o700
    line = f"kept first in {holder(output)}: the same command goes on from there, --force starts over"
    assert logged.messages == [line]
    assert make(output) == ["second"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert below(output) == WHOLE


def test_other_inputs_are_compiled_again(output):
    with pytest.raises(RuntimeError):
        interrupt(output, RuntimeError())
    assert make(output, digest="other") == ["first", "second"]
    assert (output / "first" / "model.neuron").read_text().startswith("first other")


def test_a_component_that_is_no_longer_wanted_does_not_stay(output):
    with pytest.raises(RuntimeError):
        interrupt(output, RuntimeError())
    with unfinished_export(output, ["second"], force=False) as export:
        assert below(export.artifacts) == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("other content"),
        lambda file: file.write_text(file.read_text()[:-1]),
        lambda file: file.unlink(),
        lambda file: (file.parents[2] / "finished" / "first.json").write_text("{}"),
        lambda file: file.write_bytes(file.read_bytes().replace(b"x" * 4000, bytes(4000), 1)),
        lambda file: (file.parent / "evil.py").write_text("import os"),
    ],
    ids=["changed", "truncated", "removed", "record", "zeroed", "added"],
)
def test_a_finished_component_that_was_damaged_since_is_compiled_again(output, damage):
    with pytest.raises(RuntimeError):
        interrupt(output, RuntimeError())
    damage(holder(output) / "artifacts" / "first" / "model.neuron")
    assert make(output) == ["first", "second"]
    assert below(output) == WHOLE


def test_force_forgets_what_was_finished(output, logged):
    for force, hint in ((False, "the same command goes"), (True, "the same command without --force goes")):
        with pytest.raises(RuntimeError):
            interrupt(output, RuntimeError(), force=force)
        assert hint in logged.messages[-1]
    assert make(output, force=True) == ["first", "second"]


def test_force_replaces_an_export_and_what_the_user_edits_stays(output, logged):
    make(output)
    (output / "README.md").write_text("mine")
    with pytest.raises(InvalidExportOption, match="is not empty; --force replaces the export that it holds"):
        make(output)
    with pytest.raises(RuntimeError):
        interrupt(output, RuntimeError(), force=True)
    said = logged.messages[-1]
    assert said.endswith(f"the same command without --force goes on from there, once {output} is moved away")
    assert below(output) == WHOLE | {"README.md"}, "the former export stays until the new one is whole"
    make(output, force=True, digest="new")
    assert (output / "first" / "model.neuron").read_text().startswith("first new")
    assert below(output) == WHOLE | {"README.md"} and (output / "README.md").read_text() == "mine"
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_an_output_that_is_taken_meanwhile_is_not_replaced(output):
    with pytest.raises(InvalidExportOption, match="is not empty"), unfinished_export(output, NAMES, force=True) as new:
        write_all(new)
        output.mkdir()
        (output / "precious").write_text("data")
        new.put_in_place()
    assert below(output) == {"precious"}
    (output / "precious").unlink()
    assert make(output) == []


class Killed(BaseException):
    """The end of a process, after which nothing of it runs."""


@pytest.fixture
def killed(output, monkeypatch):
    """An export that replaces another one, killed at a step: a function of a module, and whether it is done first."""

    def kill(module, step: str, *, done: bool) -> None:
        original = getattr(module, step)

        def last(*arguments):
            if done:
                original(*arguments)
            raise Killed

        make(output)
        with monkeypatch.context() as patch:
            patch.setattr(UnfinishedExport, "restore", lambda self: None)
            patch.setattr(UnfinishedExport, "clean", lambda self, wanted: ["as", "killed"])
            patch.setattr(UnfinishedExport, "remove", lambda self: None)
            with pytest.raises(Killed), unfinished_export(output, NAMES, force=True) as new:
                write_all(new, "new")
                patch.setattr(module, step, last)
                new.put_in_place()

    return kill


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_kill_at_the_exchange_leaves_an_export_in_place(output, killed, done):
    killed(unfinished, "exchange", done=done)
    assert below(output) == WHOLE
    assert (output / "first" / "model.neuron").read_text().startswith("first new" if done else "first same")
    tidy(output)
    assert below(output) == WHOLE
    assert holder(output).exists() != done, "what the new export was made of stays until it is in place"
    assert make(output, force=True, digest="newer") == ["first", "second"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_kill_between_the_two_renames_where_names_cannot_be_exchanged(output, killed, monkeypatch):
    monkeypatch.setattr(unfinished, "exchange", lambda first, second: False)
    killed(Path, "rename", done=True)
    assert not output.exists()
    tidy(output)
    assert (output / "first" / "model.neuron").read_text().startswith("first same")
    make(output, force=True, digest="new")
    assert (output / "first" / "model.neuron").read_text().startswith("first new")
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_two_names_change_places_in_one_step(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (second / "below").mkdir(parents=True)
    assert exchange(first, second)
    assert (first / "below").is_dir() and not (second / "below").exists()
    with pytest.raises(FileNotFoundError):
        exchange(first, tmp_path / "nothing")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_exchange(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        ctypes.set_errno(number)
        return -1

    for library in (SimpleNamespace(renameat2=refuse), SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: library)  # noqa: B023
        assert not exchange(tmp_path / "first", tmp_path / "second")


def put_aside(output: Path, label: str) -> Path:
    with unfinished_export(output, NAMES, force=False) as export:
        write_all(export)
        return export.put_aside(label)


def test_put_aside_finds_a_free_name(output):
    (output.parent / "my pixart.failed").mkdir()
    assert below(put_aside(output, "failed")) == WHOLE
    assert sorted(path.name for path in output.parent.iterdir()) == ["my pixart.failed", "my pixart.failed-2"]


def test_a_name_without_room_for_the_label_is_cut(output):
    aside = put_aside(output.with_name("é" * 123), "failed-validation")
    assert aside.name.endswith(".failed-validation") and len(aside.name.encode()) <= 255
    assert below(aside) == WHOLE


def test_a_link_stays_one(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    make(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert below(tmp_path / "empty") == WHOLE


def test_nothing_finished_leaves_nothing(tmp_path, logged):
    """Of folders that were made for the export, either."""
    with pytest.raises(RuntimeError), unfinished_export(tmp_path / "new" / "er" / "out", NAMES, force=False) as export:
        (export.artifacts / "first").mkdir()
        raise RuntimeError("compiler")
    assert (list(tmp_path.iterdir()), logged.messages) == ([], [])
    make(tmp_path / "new" / "er" / "out")
    assert below(tmp_path / "new" / "er" / "out") == WHOLE


# Locks

HOLDS = """
import os, signal, sys
from pathlib import Path
from optimum_pixart_neuron.export.unfinished import unfinished_export

with unfinished_export(Path(sys.argv[1]), ["first"], force=False) as export:
    (export.artifacts / "first").mkdir()
    (export.new_workdir() / "graph").write_text("intermediate")
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(output):
    """Another process that is in the middle of an export to `output`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.seconds
def test_two_exports_to_one_output_are_kept_apart_and_a_killed_one_holds_nothing(output, other, tmp_path):
    (tmp_path / "link").symlink_to(output)
    for path in (output, tmp_path / "link"):
        for start in (lambda: tidy(path), lambda: make(path), lambda: make(path, force=True)):  # noqa: B023
            with pytest.raises(InvalidExportOption, match="another export is writing it"):
                start()
    assert below(holder(output)) >= {"lock"} and (holder(output) / "artifacts" / "first").is_dir()
    make(output.with_name("another"))
    other.kill()
    other.wait()
    assert holder(output).is_dir() and not output.exists()
    assert make(output) == ["first", "second"]
    assert {path.name for path in output.parent.iterdir()} == {output.name, "another"}


def test_the_lock_is_gone_with_its_name(output):
    """Who waited for a lock that was removed must not take the removed one for the lock."""
    first, second = UnfinishedExport(output), UnfinishedExport(output)
    with first.locked():
        held = (holder(output) / "lock").stat().st_ino
        first.remove()
        assert not holder(output).exists()
        with second.locked():
            assert (holder(output) / "lock").stat().st_ino != held
            with pytest.raises(InvalidExportOption), UnfinishedExport(output).locked():
                pass


# A full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_keeps_what_is_finished(output, number, logged):
    said = refusal(OutputFull, interrupt, output, OSError(number, os.strerror(number)))
    assert said == f"{output.parent} has no room for the export: {os.strerror(number)}"
    assert OutputFull.exit_status == 1 and "kept first in" in logged.messages[-1]
    assert make(output) == ["second"]


def test_a_full_disk_under_a_library_that_does_not_say_so(output, monkeypatch):
    """torch.jit.save: "PytorchStreamWriter failed writing file"; neuronx-cc: a status."""
    writer = RuntimeError("PytorchStreamWriter failed writing file")
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        interrupt(output, writer)
    monkeypatch.setattr(unfinished.shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    for error in (writer, CompilationFailed("vae", "neuronx-cc failed with 70", None)):
        with pytest.raises(OutputFull, match="No space left on device"):
            interrupt(output, error, force=True)
    with pytest.raises(KeyboardInterrupt):
        interrupt(output, KeyboardInterrupt(), force=True)


def test_an_error_of_another_kind_stays_what_it_is(output):
    with pytest.raises(OSError, match="Permission denied") as error:
        interrupt(output, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    assert not isinstance(error.value, OutputFull)
