"""Folders beside an output that no export of this user's made, or that are not what they were."""

import os
import shutil
from pathlib import Path

from . import actions
from .stage import Stage

_LINKED, _LINK_WITHIN, _LINK_BELOW, _LOCK_LINKED, _OTHERS_WRITE, _OTHER_USER, _FOLDER, _STRANGER, _FILE, _LOST = range(
    10
)


def plant(stage: Stage) -> str:
    """Plant one, see that it is refused and left alone, and export when it is moved away."""
    holder, precious = stage.output.with_name(".out.partial"), stage.folder / "precious"
    precious.mkdir()
    (precious / "data").write_bytes(b"of the user")
    if stage.fault.number == _LOST:
        return _lose_a_block(stage, holder)
    _plant(stage, holder, precious)
    with stage.keeping(precious):
        before = _state(holder)
        for force in (False, True):
            refused = stage.run(actions.export, {**stage.options, "force": force})
            assert refused.error == "InvalidExportOption" and "\n" not in refused.message, refused
            assert "move it away" in refused.message, refused
            assert _state(holder) == before
            assert not stage.output.exists()
        holder.rename(stage.folder / "moved away")
        stage.check_recovers()
    return "refused"


def _plant(stage: Stage, holder: Path, precious: Path) -> None:
    number, numbers = stage.fault.number, stage.fault.random
    if number == _LINKED:
        holder.symlink_to(precious)
    elif number == _FILE:
        holder.write_bytes(b"of the user")
    elif number == _FOLDER:
        (holder / numbers.choice(("artifacts", "finished", "data"))).mkdir(parents=True)
        (holder / "notes").write_bytes(b"of the user")
    else:
        shutil.copytree(stage.undisturbed.unfinished, stage.output.parent, dirs_exist_ok=True)
    if number == _LINK_WITHIN:
        shutil.rmtree(holder / "artifacts")
        (holder / "artifacts").symlink_to(precious)
    elif number == _LINK_BELOW:
        file = numbers.choice(sorted((holder / "artifacts" / "text_encoder").rglob("*.*")))
        file.unlink()
        file.symlink_to(precious / "data")
    elif number == _LOCK_LINKED:
        (holder / "lock").unlink(missing_ok=True)
        (holder / "lock").symlink_to(precious / "data")
    elif number == _STRANGER:
        (holder / "notes").write_bytes(b"of the user")
    elif number == _OTHERS_WRITE or (number == _OTHER_USER and os.geteuid() != 0):
        holder.chmod(numbers.choice((0o770, 0o777, 0o702)))
    elif number == _OTHER_USER:
        os.chown(numbers.choice((holder, holder / "finished", holder / "artifacts" / "transformer")), 12345, 12345)


def _lose_a_block(stage: Stage, holder: Path) -> str:
    """A finished component in which a disk has lost a few bytes that no sample reads: it is compiled again."""
    numbers = stage.fault.random
    shutil.copytree(stage.undisturbed.unfinished, stage.output.parent, dirs_exist_ok=True)
    path = numbers.choice(sorted((holder / "artifacts").rglob("*.safetensors")))
    content = bytearray(path.read_bytes())
    begin = numbers.randrange(len(content) // 2, len(content) - 64)
    content[begin : begin + 64] = bytes(byte ^ 0x55 for byte in content[begin : begin + 64])
    path.write_bytes(content)
    with stage.keeping():
        again = stage.succeed(actions.export, stage.options)
        assert f"{path.parent.parent.name}: unchanged" not in again.output, again
        stage.check_good(stage.output)
        stage.check_nothing_hidden()
    return "compiled again"


def _state(path: Path) -> dict[str, object]:
    paths = [path, *(path.rglob("*") if not path.is_symlink() else ())]
    return {str(each): (each.lstat().st_mode, each.lstat().st_mtime_ns, each.lstat().st_uid) for each in paths}
