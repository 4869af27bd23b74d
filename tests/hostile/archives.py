"""Cases in the archives of programs, `model.neuron`; `tests/emulator/test_archive.py` has every change of one."""

import io
import json
import zipfile
from collections.abc import Callable

from ..archives import SETSTATE, rewritten
from .bases import saved
from .documents import CHANGES, written
from .ground import Ground, changing

_CALLS = b"\x80\x02cos\nsystem\nX\x14\x00\x00\x00echo ran > somewhere\x85R."


_of_an_archive = changing(lambda ground: [f"{component}/model.neuron" for component in ground.components])


@_of_an_archive
def foreign_archive(ground: Ground, _: bytes) -> bytes:
    """A module of TorchScript that writes a file while it is loaded."""
    import torch

    from ..evil_module import Evil

    return saved(torch.jit.script(Evil(str(ground.victim))))


@_of_an_archive
def changed_records(ground: Ground, archive: bytes) -> bytes:
    """An archive of the emulator's with code, pickles or records of a stranger's."""
    setstate = SETSTATE.replace("{victim}", str(ground.victim)).encode()
    changes: tuple[Callable[[str, bytes], dict[str, bytes] | bytes | None], ...] = (
        lambda name, content: content.replace(b"def forward(", setstate) if name.endswith(".py") else content,
        lambda name, content: {name: content, "../../evil.py": b"evil"} if name == "version" else content,
        lambda name, content: _CALLS if name in ("data.pkl", "constants.pkl") else content,
        lambda name, content: b"\x80\x02" + b"(" * 100_000 if name == "data.pkl" else content,
        lambda name, content: None if name == "constants.pkl" else content,
    )
    return rewritten(archive, ground.choose(*changes))


@_of_an_archive
def changed_program(ground: Ground, archive: bytes) -> bytes:
    """Another header of the program in an archive, which says what is run, on what, and how much memory it takes."""
    from optimum_pixart_neuron.emulator.serialization import MAGIC

    start = len(MAGIC) + 8

    def change(name: str, content: bytes) -> bytes:
        if not content.startswith(MAGIC):
            return content
        length = int.from_bytes(content[len(MAGIC) : start], "little")
        header = json.loads(content[start : start + length])
        text = ground.choose(
            written({**header, "instructions": [["aten::from_file.default", [str(ground.victim), True, 4], {}, []]]}),
            written({**header, "instructions": [["aten::full.default", [[10**12], 1.0], {}, []]]}),
            *(change(json.loads(json.dumps(header)), ground.numbers) for change in CHANGES.values()),
        )
        return MAGIC + len(text).to_bytes(8, "little") + text + content[start + length :]

    return rewritten(archive, change)


@_of_an_archive
def no_archive(ground: Ground, content: bytes) -> bytes:
    buffer, bomb = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", ground.code)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(64 << 20))
    cut = ground.numbers.randrange(1, len(content))
    others = (content[:cut], content[cut:], content + bytes(100), ground.code.encode())
    return ground.choose(*others, buffer.getvalue(), bomb.getvalue())
