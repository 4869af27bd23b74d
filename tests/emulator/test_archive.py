"""A file that is said to be a program of the emulator: nothing in it runs before it is known to be one."""

import io
import json
import pickletools
import zipfile
from fnmatch import fnmatch

import pytest
import torch
from torch import nn

from optimum_pixart_neuron.emulator.archive import check_archive
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.serialization import MAGIC
from optimum_pixart_neuron.emulator.single_core import build_module
from optimum_pixart_neuron.emulator.spmd import build_executor
from tests.archives import SETSTATE, rewritten
from tests.emulator.programs import Calls, total
from tests.evil_module import Evil


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 3, bias=False)

    def forward(self, x, ids):
        return {"y": self.second(self.first(x)), "ids": ids.masked_fill(ids > 1, float("-inf"))}


INPUTS = (torch.ones(1, 3), torch.ones(2))


def one_core(inline=False):
    module = Layers()
    return build_module(Program.compile(module, INPUTS), module.state_dict(), inline_weights=inline)


def two_ranks():
    programs = [Program.compile(Calls(total), (torch.ones(size),), world_size=2) for size in (2, 3)]
    return build_executor({"first": programs[:1], "second": programs[1:]}, world_size=2)


MODULES = {"one core": one_core, "inlined": lambda: one_core(inline=True), "two ranks": two_ranks}


@pytest.fixture(scope="module")
def saved():
    """An archive of each kind, as bytes."""
    archives = {}
    for kind, build in MODULES.items():
        build()  # names of a second module are mangled
        buffer = io.BytesIO()
        torch.jit.save(build(), buffer)
        archives[kind] = buffer.getvalue()
    return archives


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.neuron"


@pytest.mark.parametrize("kind", MODULES)
def test_what_the_emulator_wrote(saved, path, kind):
    path.write_bytes(saved[kind])
    check_archive(path)
    again = torch.jit.load(path)
    torch.jit.save(again, path)
    check_archive(path)


def changed(records: str, make):
    """A change of the records whose names fit the pattern: to `make(content)`."""
    return lambda name, content: make(content) if fnmatch(name, records) else content


def in_code(old: str, new: str):
    return changed("*.py", lambda content: content.replace(old.encode(), new.encode()))


def beside(record: str, content: bytes):
    return changed("version", lambda version: {"version": version, record: content})


def test_a_foreign_archive_writes_nothing(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(16))
    torch.jit.save(torch.jit.script(Evil(str(victim))), path)
    with pytest.raises(RuntimeError, match="^it is no program that this emulator wrote: a pickle names __torch__"):
        check_archive(path)
    assert victim.read_bytes() == bytes(16)
    torch.jit.load(path)
    assert victim.read_bytes() != bytes(16), "the attack that is refused is none"


CALLS = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
CHANGES = {
    "a method more": in_code("def forward(", SETSTATE.replace("{victim}", "/tmp/victim")),
    "another operation": in_code("torch.empty([0], dtype=4)", 'torch.from_file("/tmp/victim", True, 4)'),
    "another file of code": beside("code/__torch__/other.py", b"class Other(Module):\n  training : bool\n"),
    "the same code twice": lambda name, content: {
        name: content,
        **({name.replace(".py", "_2.py"): content} if name.endswith(".py") else {}),
    },
    "an old format": beside("model.json", b"{}"),
    "constants": changed("constants.pkl", lambda _: b"\x80\x02K\x01\x85."),
    "a debug pickle that calls": changed("*debug_pkl", lambda _: CALLS),
    "a pickle that calls": changed("data.pkl", lambda _: CALLS),
    "a pickle with a large memo": changed("data.pkl", lambda _: b"\x80\x02Nr\xff\xff\xff\x7f."),
    "an empty pickle": changed("data.pkl", lambda _: b""),
    "no pickle": changed("data.pkl", lambda _: None),
    "a short tensor": changed("data/0", lambda content: content[:-1]),
    "another tensor": changed("data/0", lambda content: bytes(len(content))),
    "a version that is none": changed("version", lambda _: b"9" * 5000),
    "huge code": changed("*.py", lambda content: content + b"#" * (17 << 20)),
}


@pytest.mark.parametrize("kind", ["one core", "two ranks"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_archive(saved, path, kind, change):
    path.write_bytes(rewritten(saved[kind], CHANGES[change]))
    with pytest.raises(RuntimeError, match="^it is no program that this emulator wrote: ") as caught:
        check_archive(path)
    assert "\n" not in str(caught.value)


def test_an_unchanged_archive_that_was_rewritten(saved, path):
    path.write_bytes(rewritten(saved["one core"], lambda name, content: content))
    check_archive(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + bytes(100), bytes(1000)])
def test_no_archive(path, content):
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match="^it is no program that this emulator wrote: "):
        check_archive(path)


@pytest.mark.seconds
def test_every_byte_of_the_pickle_may_be_damaged(saved, path):
    """It is refused or does no harm: nothing but RuntimeError comes of it."""
    with zipfile.ZipFile(io.BytesIO(saved["one core"])) as file:
        (name,) = [each for each in file.namelist() if each.endswith("/data.pkl")]
        pickled = file.read(name)
    from optimum_pixart_neuron.emulator.archive_pickle import read_pickle

    expected = (RuntimeError, ValueError, TypeError, KeyError, RecursionError)
    sizes = {f"data/{number}": 10**6 for number in range(10)}
    for position in range(len(pickled)):
        for value in (0, 255, pickled[position] ^ 1, ord("R"), ord("c")):
            damaged = pickled[:position] + bytes([value]) + pickled[position + 1 :]
            try:
                read_pickle(damaged, sizes)
            except expected:
                continue
    assert sum(1 for _ in pickletools.genops(pickled)) > 50


def header_of(program: Program) -> dict:
    content = bytes(program.to_bytes())
    start = len(MAGIC) + 8
    return json.loads(content[start : start + int.from_bytes(content[len(MAGIC) : start], "little")])


def with_header(header) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text


@pytest.fixture(scope="module")
def header():
    return header_of(Program.compile(Layers(), INPUTS))


def test_the_header_is_whole(header):
    program = Program.from_bytes(with_header(header))
    program.check_values(1 << 30)


def call(operation, *arguments, **keywords):
    """An instruction that frees nothing."""
    return [operation, list(arguments), keywords, []]


def value(number):
    return {"value": number}


HEADERS = {
    "an operation that opens a file": {"instructions": [call("aten::from_file.default", "/tmp/victim", True, 4)]},
    "an operation without bounds": {"instructions": [call("aten::_reshape_alias.default", value(0), [9], [9])]},
    "an operation of the emulator's own": {"instructions": [call("neuron_emulator::load.default")]},
    "an output argument": {"instructions": [call("aten::add.out")]},
    "no operation": {"instructions": [call("os::system.default")]},
    "an attribute of an operation": {"instructions": [call("aten::add.__class__")]},
    "a value that is not there": {"results": [99, 100]},
    "a value of later": {"instructions": [call("aten::neg.default", value(5))] * 9},
    "a value that was freed": {"instructions": [["aten::neg.default", [value(0)], {}, [0]]] * 9},
    "a dtype that is none": {"outputs": [[[1], "save"], [[1], "load"]]},
    "an argument's dtype that is none": {"instructions": [call("aten::arange.default", 3, dtype={"dtype": "load"})]},
    "another device": {"instructions": [call("aten::arange.default", 3, device={"device": "cuda"})]},
    "a name that is code": {
        "inputs": [["x):\n    return self.evil()\ndef f(self", [1, 3], "float32"], ["y", [2], "float32"]]
    },
    "a keyword as a name": {"inputs": [["return", [1, 3], "float32"], ["y", [2], "float32"]]},
    "two inputs of one name": {"inputs": [["x", [1, 3], "float32"], ["x", [2], "float32"]]},
    "a structure of other outputs": {"structure": {"y": 0, "ids": 0}},
    "a structure of code": {"structure": {"y": "flat[0]", "ids": 1}},
    "a deep structure": {"structure": json.loads('["list",' * 50 + "0" + "]" * 50)},
    "no structure": {"structure": None},
    "many ranks": {"world_size": 10**9},
    "groups of other ranks": {"meshes": [[[0, 1]]]},
    "groups without ranks": {"meshes": [[]]},
    "a large number": {"device_bytes": 10**30},
    "a negative number": {"device_bytes": -1},
    "a number as a text": {"world_size": "1"},
    "a constant that is not there": {"constants": [{"shape": [10**9], "dtype": "float32"}]},
    "a constant of many dimensions": {"constants": [{"shape": [1] * 1000, "dtype": "float32"}]},
    "an unknown field": {"code": "import os"},
    "another target": {"target": "../../etc"},
    "another torch": {"torch": "1.0"},
    "writing to what is not an input": {"mutated": [17]},
}


@pytest.mark.parametrize("change", HEADERS)
def test_a_changed_header(header, change):
    with pytest.raises(RuntimeError, match="^(the program (is damaged|was compiled under)|operation )") as caught:
        Program.from_bytes(with_header({**header, **HEADERS[change]}))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"torch": "' + b"9" * 5000, b"\xff\xfe"]
)
def test_a_header_that_is_none(text):
    with pytest.raises(RuntimeError, match="^the program is damaged"):
        Program.from_bytes(with_header(text))


@pytest.mark.parametrize("missing", ["torch", "weights", "structure", "instructions", "constants"])
def test_a_header_without_a_field(header, missing):
    with pytest.raises(RuntimeError, match=f"^the program is damaged: {missing}: "):
        Program.from_bytes(with_header({name: value for name, value in header.items() if name != missing}))


@pytest.mark.parametrize("length", [10**18, -1, 5])
def test_a_header_of_another_length(header, length):
    content = bytearray(with_header(header))
    content[len(MAGIC) : len(MAGIC) + 8] = (length % 2**64).to_bytes(8, "little")
    with pytest.raises(RuntimeError, match="^the program is damaged"):
        Program.from_bytes(content)


VALUES = {
    "memory by a number": ([call("aten::full.default", [10**12], 1.0)], "needs more than the 1073741824 bytes"),
    "memory by broadcasting": (
        [call("aten::expand.default", value(3), [10**9, 3]), call("aten::neg.default", value(5))],
        "needs more than",
    ),
    "memory by repeating": ([call("aten::repeat.default", value(0), [10**5, 10**5])], "needs more than"),
    "shapes that do not fit": ([call("aten::mm.default", value(0), value(0))], "is damaged: operation"),
    "too few arguments": ([call("aten::mm.default")], "is damaged: operation aten::mm"),
    "arguments of other kinds": ([call("aten::mm.default", "a", 1)], "is damaged: operation aten::mm"),
    "an item that is not there": ([call("getitem", value(0), 99)], "is damaged: operation getitem"),
}


@pytest.mark.parametrize("change", VALUES)
def test_values_that_cannot_be(header, change):
    instructions, message = VALUES[change]
    assert len(header["weights"]) + len(header["inputs"]) == 5
    results = [4 + len(instructions)] * 2
    program = Program.from_bytes(with_header({**header, "instructions": instructions, "results": results}))
    with pytest.raises(RuntimeError, match=f"^the program .*{message}"):
        program.check_values(1 << 30)


def test_outputs_of_another_shape(header):
    program = Program.from_bytes(with_header({**header, "outputs": [[[7], "float32"], [[2], "float32"]]}))
    with pytest.raises(RuntimeError, match="its outputs are not of the shapes"):
        program.check_values(1 << 30)


@pytest.mark.parametrize("images", [10**6, 0, -1])
def test_a_group_norm_of_another_size(header, images):
    """PyTorch's own kernel would write beyond the tensor's end."""
    from optimum_pixart_neuron.emulator.layout import densified

    group_norm = densified(torch.ops.aten.native_group_norm.default)
    with pytest.raises(RuntimeError, match="group norm of"):
        group_norm(torch.ones(1, 4, 2), None, None, images, 4, 2, 2, 1e-5)


def test_attention_of_other_sizes():
    from optimum_pixart_neuron.emulator.layout import densified

    attention = densified(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default)
    with pytest.raises(RuntimeError, match="attention of"):
        attention(torch.ones(1, 1, 4, 8), torch.ones(1, 1, 4, 8), torch.ones(1, 1, 2, 8))


def test_a_product_of_other_sizes():
    from optimum_pixart_neuron.cpu.products import preferred

    with pytest.raises(RuntimeError):
        preferred(torch.ops.aten.mm.default)(torch.ones(2, 3), torch.ones(8, 4).t())


def test_the_tracer_refuses_what_no_program_may_have():
    with pytest.raises(RuntimeError, match="operation aten::rand.* cannot be compiled: the emulator has it not among"):
        Program.compile(Calls(lambda x: x + torch.rand(3)), (torch.ones(3),))


def test_the_list_names_operations_that_there_are():
    from optimum_pixart_neuron.emulator import operations

    missing = [name for name in operations._ATEN if not hasattr(torch.ops.aten, name)]
    assert not set(missing) - {"_fused_rms_norm"}, "newer than torch 2.8"
    opens = [name for name in operations._ATEN if "filename" in str(getattr(torch.ops.aten, name, ""))]
    assert not opens
