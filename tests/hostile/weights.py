"""Cases in safetensors files: what a header may say, and what may lie in the place of one."""

import json
from collections.abc import Callable
from functools import wraps

from .documents import CHANGES, DEEP, written
from .ground import Ground, changing

_MANY, _SOME = 800_000, 5_000
"""Entries of a header; only the second takes no more bytes than are read."""


def _with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _parts(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


_of_a_file = changing(lambda ground: ground.weights)


def _of_a_header(change: Callable[[Ground, dict, bytes], bytes]) -> Callable[[Ground], None]:
    """The same by its header and its data."""

    @_of_a_file
    @wraps(change)
    def change_parts(ground: Ground, content: bytes) -> bytes:
        return change(ground, *_parts(content))

    return change_parts


@_of_a_file
def header_of_another_length(ground: Ground, content: bytes) -> bytes:
    """A number in the first eight bytes."""
    length = ground.choose(0, 1, len(content), len(content) * 2, 10**9, 10**15, 2**63, 2**64 - 1)
    return length.to_bytes(8, "little") + content[8:]


@_of_a_header
def header_of_other_entries(ground: Ground, header: dict, data: bytes) -> bytes:
    """Which do not lie in the file as they say."""
    name = ground.choose(*sorted(set(header) - {"__metadata__"}))
    entry = header[name]
    begin, end = entry["data_offsets"]
    header[name] = ground.choose(
        *({**entry, "shape": [10**12]}, {**entry, "shape": [2**62, 2**62]}, {**entry, "shape": [-1]}),
        *({**entry, "shape": [1] * 5000}, {**entry, "shape": "64"}, {**entry, "shape": [[4]]}),
        *({**entry, "dtype": "EVIL"}, {**entry, "dtype": ["F32"]}, {**entry, "dtype": "F64"}),
        {**entry, "dtype": "F8_E8M0"},
        *({**entry, "data_offsets": [begin, 10**15]}, {**entry, "data_offsets": [end, begin]}),
        *({**entry, "data_offsets": [begin + 4, end + 4]}, {**entry, "data_offsets": [-4, end]}),
        *({**entry, "data_offsets": [0]}, {**entry, "data_offsets": [0.5, 1.5]}, {**entry, "evil": 1}),
        *([], None, "text", 7, {}),
    )
    return _with_header(written(header), data)


@_of_a_header
def header_of_other_text(ground: Ground, header: dict, data: bytes) -> bytes:
    text = written(header)
    other = ground.choose(
        *(b"", b"{", b"[]", b"null", b"\xff" * 100, b"[" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        *(text[:-1], b" " * (5 << 20) + text, text[:-1] + b"," + text[1:]),
    )
    return _with_header(other, data)


@_of_a_header
def header_of_any_change(ground: Ground, header: dict, data: bytes) -> bytes:
    """Of its JSON; what is left may still be right."""
    return _with_header(CHANGES[ground.choose(*CHANGES)](header, ground.numbers), data)


@_of_a_file
def header_of_many_entries(ground: Ground, _: bytes) -> bytes:
    count = ground.choose(_MANY, _SOME)
    entries = ",".join(f'"{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for number in range(count))
    return _with_header(f"{{{entries}}}".encode())


@_of_a_file
def other_content(ground: Ground, content: bytes) -> bytes:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 335304388\n"
    cut = ground.numbers.randrange(8, len(content))
    return ground.choose(b"", b"PK\3\4" + bytes(100), pointer, bytes(1000), content[:cut], content + b"\0")


def numbers_of_other_types(ground: Ground) -> None:
    """Tensors of a single number, as an adapter's alpha is, of types that compute with nothing."""
    name = ground.choose(*[each for each in ground.weights if each.endswith("lora.safetensors")])
    header, data = _parts((ground.folder / name).read_bytes())
    kind, size = ground.choose(("C64", 8), ("F8_E8M0", 1), ("F8_E5M2", 1), ("BOOL", 1), ("U64", 8), ("U32", 4))
    again, pieces, position = {}, [], 0
    for each, entry in header.items():
        if each == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        piece = bytes(size) if entry["shape"] == [] else data[begin:end]
        offsets = [position, position + len(piece)]
        again[each] = {**entry, "dtype": kind if entry["shape"] == [] else entry["dtype"], "data_offsets": offsets}
        pieces.append(piece)
        position += len(piece)
    ground.write(name, _with_header(written(again), b"".join(pieces)))


@_of_a_file
def flipped_bit(ground: Ground, content: bytes) -> bytes:
    """In the header: what is left may be right."""
    bit = ground.numbers.randrange(8 * (8 + int.from_bytes(content[:8], "little")))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@_of_a_header
def other_names(ground: Ground, header: dict, data: bytes) -> bytes:
    """Tensors that are missing, too many, of another shape, or saved with a wrapper's prefix."""
    names = sorted(set(header) - {"__metadata__"})
    prefix = ground.choose("_orig_mod.", "module.", "base_model.model.", "../", "evil\x1b[2J", "")
    some = names if ground.numbers.random() < 0.5 else [ground.choose(*names)]
    if prefix:
        header = {prefix + name if name in some else name: entry for name, entry in header.items()}
    else:
        entry = header[some[0]]
        entry["shape"] = [*entry["shape"], 1] if ground.numbers.random() < 0.5 else entry["shape"][::-1]
    return _with_header(written(header), data)


def index_of_shards(ground: Ground) -> None:
    """A checkpoint whose weights are said to lie in several files, and where."""
    component = ground.choose(*ground.components)
    (weights,) = (ground.folder / component).glob("*.safetensors")
    header, _ = _parts(weights.read_bytes())
    names = sorted(set(header) - {"__metadata__"})
    shard = ground.choose(
        *("../../../../etc/passwd", "/dev/zero", "/etc/passwd", "evil.py", "pytorch_model.bin", "", "a/b.safetensors"),
        *("..safetensors", "\0.safetensors", "x" * 300 + ".safetensors", weights.name, 7, None, ["a"], {"a": 1}),
    )
    maps = (
        *(dict.fromkeys(names, shard), {**dict.fromkeys(names, weights.name), "x": shard}, [shard], shard),
        {str(number): "a.safetensors" for number in range(9000)},
    )
    document = ground.choose({}, *({"weight_map": each} for each in maps))
    ground.write(f"{component}/{weights.stem}.safetensors.index.json", json.dumps(document))
