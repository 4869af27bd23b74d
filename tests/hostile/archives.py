"""Cases in the archives of programs, `model.neuron`."""

import io
import json
import zipfile
from collections.abc import Callable

from ..archives import SETSTATE, rewritten
from .bases import saved
from .documents import CHANGES, written
from .ground import Ground

_CALLS = b"\x80\x02cos\nsystem\nX\x14\x00\x00\x00echo ran > somewhere\x85R."
_MAGIC_NAMES = ("data.pkl", "constants.pkl", "version", "byteorder")


def _programs(ground: Ground) -> list[str]:
    return [f"{component}/model.neuron" for component in ground.components]


def foreign_archive(ground: Ground) -> None:
    """A module of TorchScript that writes a file while it is loaded."""
    import torch

    from ..evil_module import Evil

    ground.write(ground.choose(*_programs(ground)), saved(torch.jit.script(Evil(str(ground.victim)))))
    ground.seal()


def changed_records(ground: Ground) -> None:
    """An archive of the emulator's with code, pickles or records of a stranger's."""
    setstate = SETSTATE.replace("{victim}", str(ground.victim)).encode()
    changes: tuple[Callable[[str, bytes], dict[str, bytes] | bytes | None], ...] = (
        lambda name, content: content.replace(b"def forward(", setstate) if name.endswith(".py") else content,
        lambda name, content: {name: content, "code/__torch__/other.py": b"class Other(Module):\n  training : bool\n"},
        lambda name, content: {name: content, "model.json": b"{}"} if name == "version" else content,
        lambda name, content: {name: content, "../../evil.py": b"evil"} if name == "version" else content,
        lambda name, content: _CALLS if name == "data.pkl" else content,
        lambda name, content: _CALLS if name == "constants.pkl" else content,
        lambda name, content: b"\x80\x02Nr\xff\xff\xff\x7f." if name == "data.pkl" else content,
        lambda name, content: b"\x80\x02" + b"(" * 100_000 if name == "data.pkl" else content,
        lambda name, content: content + b"#" * (17 << 20) if name.endswith(".py") else content,
        lambda name, content: None if name == ground_name else content,
        lambda name, content: b"9" * 5000 if name == "version" else content,
    )
    ground_name = ground.choose(*_MAGIC_NAMES[:2])
    name = ground.choose(*_programs(ground))
    ground.write(name, rewritten((ground.folder / name).read_bytes(), ground.choose(*changes)))
    ground.seal()


def changed_program(ground: Ground) -> None:
    """Another header of the program in an archive, which says what is run, on what, and how much memory it takes."""
    from optimum_pixart_neuron.emulator.serialization import MAGIC

    start = len(MAGIC) + 8

    def change(name: str, content: bytes) -> bytes:
        if not content.startswith(MAGIC):
            return content
        length = int.from_bytes(content[len(MAGIC) : start], "little")
        header = json.loads(content[start : start + length])
        text = ground.choose(*_headers(ground, header))
        return MAGIC + len(text).to_bytes(8, "little") + text + content[start + length :]

    name = ground.choose(*_programs(ground))
    archive = (ground.folder / name).read_bytes()
    ground.write(name, rewritten(archive, change))
    ground.seal()


def _headers(ground: Ground, header: dict) -> list[bytes]:
    def instructions(*listed: list) -> bytes:
        return written({**header, "instructions": list(listed)})

    return [
        *(instructions(["aten::from_file.default", [str(ground.victim), True, 4], {}, []]),),
        instructions(["aten::full.default", [[10**12], 1.0], {}, []]),
        instructions(["os::system.default", ["true"], {}, []]),
        written({**header, "world_size": 10**9}),
        written({**header, "constants": [{"shape": [10**12], "dtype": "float32"}]}),
        written({**header, "device_bytes": 10**30}),
        *(change(json.loads(json.dumps(header)), ground.numbers) for change in CHANGES.values()),
    ]


def no_archive(ground: Ground) -> None:
    name = ground.choose(*_programs(ground))
    content = (ground.folder / name).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", ground.code)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(64 << 20))
    cut = ground.numbers.randrange(1, len(content))
    others = (b"", b"PK\3\4" + bytes(100), bytes(1000), content[:cut], content[cut:], ground.code.encode())
    ground.write(name, ground.choose(*others, buffer.getvalue(), bomb.getvalue(), content + b"\0" * 100))
    ground.seal()
