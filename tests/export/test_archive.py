"""Programs on the disk: what is left out of a TorchScript archive, and that it loads all the same."""

import errno
import zipfile
from pathlib import Path

import pytest
import torch

from optimum_pixart_neuron.export.archive import save_program


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(4097, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def test_a_program_computes_the_same_and_does_not_name_its_source(tmp_path):
    program = torch.jit.script(Scaled())
    save_program(program, tmp_path / "program")
    x = torch.randn(4097)
    assert torch.equal(torch.jit.load(tmp_path / "program")(x), program(x))
    with zipfile.ZipFile(tmp_path / "program") as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert str(Path(__file__).parent).encode() not in archive.read(entry), entry.filename
        stored = [entry for entry in archive.infolist() if entry.compress_type == zipfile.ZIP_STORED]
    content = (tmp_path / "program").read_bytes()
    for entry in stored:
        lengths = content[entry.header_offset + 26 : entry.header_offset + 30]
        start = entry.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
        assert start % 64 == 0, entry.filename


def test_saving_a_program_to_a_full_disk_is_an_error():
    """torch's own file writer would end the process here."""
    with pytest.raises(OSError) as full:
        save_program(torch.jit.script(Scaled()), Path("/dev/full"))
    assert full.value.errno == errno.ENOSPC
