"""Reading what others wrote: every kind of file that is not what it says ends in one line, and none waits."""

import json
import os
import struct

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.numpy import save_file

from optimum_pixart_neuron import files
from optimum_pixart_neuron.errors import ArtifactError, CheckpointError, PixArtNeuronError
from optimum_pixart_neuron.files import FileRecord, open_regular, parse_json, read_json, read_typed, safetensors_header

from .refusals import refusal

JSON = {
    "cut": (b'{"a": 1', "EOF while parsing an object"),
    "not UTF-8": (b'{"a": "\xff"}', "invalid unicode code point"),
    "a lone surrogate": (b'{"a": "\\ud800"}', "hex escape"),
    "nested": (b'{"a": ' + b"[" * 100_000, "recursion limit exceeded"),
    "nested and closed": (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "recursion limit exceeded"),
    "NaN": (b'{"a": NaN}', "it holds NaN, which is no number"),
    "a key twice": (b'{"a": {"b": 1, "b": 2}}', "it names b twice"),
    "a number of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "number out of range"),
    "a list": (b"[1]", "is damaged: it is not a JSON object"),
    "nothing": (b"", "EOF while parsing"),
    "too much": (b'{"a": "' + b"x" * files.CONFIGURATION_BYTES + b'"}', "it has more than 1048576 bytes"),
}


def refused(path) -> str:
    message = refusal(CheckpointError, read_json, path, CheckpointError, advice="take another")
    assert message.startswith(str(path)) and message.endswith("; take another") and message.isprintable()
    return message


@pytest.mark.parametrize(("content", "reason"), JSON.values(), ids=JSON)
def test_json_of_any_content_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reason in refused(path)


def test_what_diffusers_writes_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"lambda_min_clipped": -Infinity, "model_max_length": 1000000000000000019884624838656}')
    assert read_json(path, CheckpointError) == {"lambda_min_clipped": -float("inf"), "model_max_length": int(1e30)}


def test_other_things_than_files(tmp_path):
    """None waits for a writer, and nothing of a device is read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "folder", "device"):
        assert "it is not a regular file" in refused(tmp_path / name)
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop")
    assert "is missing" in refused(tmp_path / "nothing")


def test_a_number_of_keys_costs_no_square():
    many = ",".join(f'"{number}": 0' for number in range(50_000))
    with pytest.raises(ValueError, match="it names 49999 twice"):
        parse_json(f'{{{many}, "49999": 1}}'.encode())


class _Two(BaseModel):
    number: int
    names: dict[str, int] = {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, " has no number"),
        ({"number": "x" * 5000}, ": number: Input should be a valid integer"),
        ({"number": 1, "names": {"\x1b[2J\n" * 900: "x"}}, ": names.\\x1b[2J"),
    ],
)
def test_values_of_a_wrong_type_are_named_by_their_key(tmp_path, content, problem):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    message = refusal(ArtifactError, read_typed, path, _Two, ArtifactError, advice="export it again")
    assert message.startswith(f"{path}{problem}") and message.endswith("; export it again")
    assert message.isprintable() and len(message) < 400


def test_an_error_is_one_line_whatever_it_quotes():
    message = str(PixArtNeuronError("it is called \x1b[31mred\r\n" + "x" * 10_000))
    assert message.startswith("it is called \\x1b[31mred\\r\\nxxx") and message.isprintable() and len(message) < 2100


@pytest.mark.parametrize("size", [0, 1, 5000, 70_000])
def test_the_record_of_a_content_is_that_of_its_file(tmp_path, size):
    (tmp_path / "file").write_bytes(os.urandom(size))
    assert FileRecord.of_content((tmp_path / "file").read_bytes()) == FileRecord.of(tmp_path / "file")


class TestSafetensors:
    @pytest.fixture
    def whole(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        tensors = {"b": np.ones((3, 5), np.float16), "a": np.zeros((), np.int64), "none": np.zeros((0, 4), np.float32)}
        save_file(tensors, path, metadata={"format": "np"})
        return path

    @staticmethod
    def refused(path) -> str:
        with open_regular(path) as file:
            return refusal(ValueError, safetensors_header, file)

    @staticmethod
    def write(path, header, data: bytes = b"") -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def test_it_says_what_the_library_says(self, whole):
        with open_regular(whole) as file, safe_open(whole, framework="numpy") as opened:
            header = safetensors_header(file)
            assert {name: entry.shape for name, entry in header.items()} == {
                name: opened.get_slice(name).get_shape() for name in opened.keys()
            }

    @pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
    def test_cut_files(self, whole, kept):
        content = whole.read_bytes()
        whole.write_bytes(content[:kept])
        self.refused(whole)

    def test_more_bytes_than_described(self, whole):
        whole.write_bytes(whole.read_bytes() + b"more")
        assert "its header describes" in self.refused(whole)

    @pytest.mark.parametrize(
        ("entry", "problem"),
        [
            (3, "Input should be a valid dictionary"),
            ({"dtype": "F32", "shape": [2]}, "its header has no data_offsets"),
            ({"dtype": "F32", "shape": "22", "data_offsets": [0, 8]}, "shape: Input should be a valid list"),
            ({"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}, "shape.0: Input should be a valid integer"),
            ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "greater than or equal to 0"),
            ({"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}, "at most 8 items"),
            ({"dtype": "F32", "shape": [10**30], "data_offsets": [0, 8]}, "less than"),
            ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}, "at most 2 items"),
            ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "tensor w does not lie where"),
            ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "tensor w does not lie where"),
            ({"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}, "tensor w has the unknown type F33"),
            ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "more": 1}, "Extra inputs are not permitted"),
        ],
    )
    def test_entries(self, tmp_path, entry, problem):
        path = tmp_path / "weights.safetensors"
        self.write(path, {"w": entry}, bytes(8))
        assert problem in self.refused(path)

    def test_headers(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        for header, problem in (
            (b"[]", "its header is not a JSON object"),
            (b"{", "EOF while parsing"),
            (b"[" * 100_000, "recursion limit"),
            (b'{"w":{},"w":{}}', "it names w twice"),
        ):
            self.write(path, header)
            assert problem in self.refused(path)
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        self.write(path, {"w": entry, "v": entry}, bytes(8))
        assert "tensor v does not lie where" in self.refused(path)

    def test_numbers_in_a_header_take_no_memory(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        entries = ",".join(f'"{number}":{{"dtype":"F32","shape":[],"data_offsets":[0,4]}}' for number in range(90_000))
        self.write(path, f"{{{entries}}}".encode())
        assert "at most 4194304 are read" in self.refused(path)
        path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
        assert "does not fit into its 10 bytes" in self.refused(path)
