"""Which folders an export may write to, and what lies beside an output that is not its own; nothing is ever lost."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.output import check_apart, check_output, check_workdir
from optimum_pixart_neuron.export.partial_folder import LOCK, MARK, partial_folder
from optimum_pixart_neuron.export.unfinished import UnfinishedExport, tidy, unfinished_export

from ..checkpoints import opened
from ..hub.exports import make_export
from ..refusals import refusal


def state(folder: Path) -> dict[str, tuple]:
    """Everything below a folder, links and modes too."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def refused(tmp_path):
    """What an export to an output is refused with, in the order of its steps; nothing changes."""

    def begin(output: Path, force: bool) -> None:
        tidy(output)
        check_output(output, force=force)

    def refuse(output: Path, *, force: bool = False) -> str:
        before = state(tmp_path)
        said = refusal(InvalidExportOption, begin, output, force)
        assert state(tmp_path) == before
        return said

    return refuse


# The output itself


def test_the_current_folder_is_not_replaced(refused, tmp_path, monkeypatch):
    (tmp_path / "out" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "here")
    reason = " is or holds the current folder, which cannot be replaced; give an output folder that does not exist"
    for output in (Path(), Path(".."), tmp_path / "out" / "here", tmp_path / "out"):
        assert refused(output) == refused(output, force=True) == f"{output}{reason}"


def test_what_is_no_folder(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    outputs = [Path("/dev/null"), *(tmp_path / name for name in ("file", "pipe", "link"))]
    for output in outputs:
        assert refused(output) == f"{output} exists and is not a folder; give an output folder that does not exist"
    file = tmp_path / "file"
    assert refused(file / "out") == f"{file / 'out'} cannot be made: {file} is not a folder"


def test_what_holds_files_or_may_not_be_written(refused, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("data")
    assert "exists and is not empty" in refused(tmp_path / "full")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert f"you may not write to {tmp_path}" in refused(tmp_path / "new" / "out")


def test_links_in_a_circle(refused, tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for output in (tmp_path / "one", tmp_path / "two" / "out"):
        assert refused(output) == f"{output} cannot be a folder: its links go in a circle"


def test_names_that_leave_no_room(refused, tmp_path):
    check_output(tmp_path / ("n" * 246))
    with unfinished_export(tmp_path / ("n" * 246), ["first"], force=False):
        pass
    for name, size in (("n" * 247, 247), ("é" * 124, 248)):
        output = tmp_path / name
        assert refused(output) == f"{output}: its name has {size} bytes; give one of at most 246"
    deep = tmp_path.joinpath(*["d" * 200] * 20)
    assert refused(deep).startswith("the output's path has ")


def test_mount_points(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "mounted")
    (tmp_path / "mounted").mkdir()
    for output in (tmp_path / "mounted", Path("/")):
        assert refused(output) == f"{output} is a mount point, which cannot be renamed; give a folder inside it"


def test_a_folder_that_nobody_may_enter(refused, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def forbid(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbid)
    assert refused(tmp_path / "out") == f"{tmp_path / 'out'} cannot be made: Permission denied"


def test_force_takes_no_folder_of_another_user(refused, tmp_path, monkeypatch):
    make_export(tmp_path / "out")
    check_output(tmp_path / "out", force=True)
    foreign, lstat = tmp_path / "out" / "text_encoder" / "weights", Path.lstat

    def of_another(path: Path) -> SimpleNamespace:
        found = lstat(path)
        return SimpleNamespace(st_mode=found.st_mode, st_uid=found.st_uid + (path == foreign))

    monkeypatch.setattr(Path, "lstat", of_another)
    assert refused(tmp_path / "out", force=True) == (
        f"{tmp_path / 'out'}: --force would replace {foreign}, which is of another user;"
        " give an output folder that does not exist"
    )


@pytest.mark.parametrize("name", ["picture.png", "data", ".cache/mine", "transformer/notes.txt", "pipe"])
def test_force_loses_nothing_that_no_export_wrote(refused, tmp_path, name):
    make_export(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "out" / name
    path.parent.mkdir(exist_ok=True)
    if name == "data":
        path.symlink_to(tmp_path / "elsewhere")
    elif name == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("mine")
    line = f"{tmp_path / 'out'}: --force would lose {name}, which no export wrote; move it away"
    assert refused(tmp_path / "out", force=True) == line


def test_force_replaces_exports_only(refused, tmp_path):
    make_export(tmp_path / "out")
    (tmp_path / "out" / MANIFEST_FILE).write_text("{")
    assert "is damaged" in refused(tmp_path / "out", force=True)
    (tmp_path / "out" / MANIFEST_FILE).unlink()
    assert "--force replaces only exports of this package" in refused(tmp_path / "out", force=True)


def test_what_a_download_leaves_behind_is_no_stranger(tmp_path):
    make_export(tmp_path / "out")
    (tmp_path / "out" / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / "out" / ".cache" / "huggingface" / "state").write_text("")
    check_output(tmp_path / "out", force=True)


# Beside the output


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def plant(output: Path, **files: str) -> Path:
    holder = partial_folder(output)
    holder.mkdir(mode=0o700)
    for name, text in files.items():
        (holder / name).write_text(text)
    return holder


def test_a_folder_of_the_users_own_is_not_taken_for_an_unfinished_export(refused, output):
    holder = plant(output, notes="mine")
    line = f"{holder} holds notes, which no unfinished export has; move it away, or give another output folder"
    assert refused(output) == refused(output, force=True) == line
    for step in (lambda: check_output(output), lambda: unfinished_export(output, [], force=True).__enter__()):
        with pytest.raises(InvalidExportOption, match="holds notes"):  # not only while it is tidied
            step()
    (holder / "notes").rename(holder / "artifacts")
    assert "holds artifacts, and no README of an unfinished export; move it away" in refused(output)
    (holder / MARK).write_text("")
    (holder / "more").write_text("")
    assert "holds more, which no" in refused(output)


def test_a_link_is_not_followed(refused, output, tmp_path):
    (tmp_path / "precious" / "artifacts").mkdir(parents=True)
    (tmp_path / "precious" / "artifacts" / "data").write_text("mine")
    partial_folder(output).symlink_to(tmp_path / "precious")
    assert "out.partial is a link; move it away" in refused(output)
    partial_folder(output).unlink()
    holder = plant(output, **{MARK: ""})
    (holder / "artifacts").symlink_to(tmp_path / "precious" / "artifacts")
    assert "holds artifacts, which is a link" in refused(output)
    (holder / "artifacts").unlink()
    (holder / "artifacts" / "text_encoder").mkdir(parents=True)
    (holder / "artifacts" / "text_encoder" / "model.neuron").symlink_to(tmp_path / "precious")
    assert "holds artifacts/text_encoder/model.neuron, which is a link" in refused(output)
    (holder / "artifacts" / "text_encoder" / "model.neuron").unlink()
    (holder / LOCK).symlink_to(tmp_path / "precious" / "artifacts" / "data")
    assert "holds lock, which is a link" in refused(output)


def test_a_file_is_not_taken_for_the_folder(refused, output):
    partial_folder(output).write_text("mine")
    assert "out.partial is not a folder" in refused(output)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_not_trusted(refused, output, mode):
    plant(output).chmod(mode)
    assert "out.partial can be written by other users" in refused(output)


def test_a_folder_of_another_user_is_not_trusted(refused, output, monkeypatch):
    plant(output, **{MARK: ""})
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "out.partial is of another user" in refused(output)


def test_the_folder_is_private_and_the_export_is_not(output):
    with unfinished_export(output, ["first"], force=False) as export:
        assert stat.S_IMODE(export.holder.stat().st_mode) == 0o700
        assert stat.S_IMODE(export.artifacts.stat().st_mode) & 0o055 == 0o055
        assert "The same command goes on from here" in (export.holder / MARK).read_text()


def test_an_interrupted_removal_is_finished(output):
    for names in ((LOCK,), (MARK, LOCK), (), (MARK, LOCK, "finished")):
        plant(output, **dict.fromkeys(names, ""))
        tidy(output)
        assert not partial_folder(output).exists()


def test_nothing_is_made_in_a_loop_of_refusals(output, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidExportOption), UnfinishedExport(tmp_path / "new" / "out").locked():
        pass


# The compiler's folder, and the checkpoint


def test_the_compilers_folder(tmp_path):
    output = tmp_path / "out"
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(output)
    check_workdir(None, output)
    check_workdir(tmp_path / "new" / "work", output)
    check_workdir(tmp_path, output)
    inside = f"lies in {output}, which the export replaces; give another folder"
    no_folder = f"cannot be made: {tmp_path / 'file'} is not a folder"
    for folder, reason in (
        (output, inside),
        (tmp_path / "link", inside),
        (output / "work", inside),
        (partial_folder(output), inside),
        (tmp_path / "file", no_folder),
        (tmp_path / "file" / "work", no_folder),
        (Path("/dev/null"), "cannot be made: /dev/null is not a folder"),
    ):
        said = refusal(InvalidExportOption, check_workdir, folder, output)
        assert said == f"--compiler_workdir {folder} {reason}"


def test_a_compilers_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InvalidExportOption, match=f"--compiler_workdir .*: you may not write to {tmp_path}"):
        check_workdir(tmp_path / "work", tmp_path / "out")


def test_nothing_is_written_into_the_checkpoints_components(whole, tmp_path):
    checkpoint, tokenizer = opened(whole), whole / "tokenizer"
    (tmp_path / "link").symlink_to(tokenizer)
    check_apart(whole / "neuron", whole / "work", checkpoint)
    for output in (tokenizer, tokenizer / "out", tmp_path / "link" / "deeper" / "out"):
        said = refusal(InvalidExportOption, check_apart, output, None, checkpoint)
        assert said == f"{output} lies in {tokenizer}, the checkpoint's tokenizer; give a folder outside of it"
    with pytest.raises(InvalidExportOption, match="--compiler_workdir .* lies in .*, the checkpoint's scheduler"):
        check_apart(tmp_path / "out", whole / "scheduler" / "work", checkpoint)
