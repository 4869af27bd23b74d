"""The memory statement of an export: counted exactly on a small program, and refused with both sizes."""

import pytest
import torch
from torch import nn

from optimum_pixart_neuron.aten_graph import largest_live_set, trace_graph
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.hardware import GIB, get_instance
from optimum_pixart_neuron.program.memory import MemoryNeed, check_memory, within_host_memory


class Widen(nn.Module):
    """(4, 8) in; (4, 1024) in between; a view of it keeps it alive; (4, 8) out."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 1024), nn.Linear(1024, 8)

    def forward(self, tensor):
        wide = self.up(tensor)
        return self.down(wide.view(2, 2, 1024).view(4, 1024))


def test_largest_live_set_counts_values_once_and_weights_not():
    traced = trace_graph(Widen().eval(), (torch.ones(4, 8),))
    # While `down` runs: its input, seen through two views, and its output. The first input is dead by then, or was
    # alive beside the wide value before: 4 x 8 either way.
    assert largest_live_set(traced.graph_module.graph, len(traced.weight_names)) == (4 * 1024 + 4 * 8) * 4


def needs(weights: int, *activations: int) -> list[MemoryNeed]:
    parts = enumerate(activations)
    return [MemoryNeed(component=f"part{number}", weights=weights, activations=size) for number, size in parts]


def test_all_weights_and_the_largest_activations():
    line = check_memory(needs(GIB, 2 * GIB, 5 * GIB), get_instance("inf2.xlarge"), 1)
    assert line == "7.00 of 16 GiB a core: 2.00 weights, 5.00 activations of part1"
    line = check_memory(needs(GIB // 256, 0, GIB // 64), get_instance("inf2.xlarge"), 1)
    assert line == "24.00 MiB of 16 GiB a core: 8.00 weights, 16.00 activations of part1", "of a tiny model"


def test_what_does_not_fit():
    with pytest.raises(InvalidExportOption, match="does not fit inf2.xlarge: 17.00 of 16 GiB a core.*--tensor_para"):
        check_memory(needs(GIB, 15 * GIB, 5 * GIB), get_instance("inf2.xlarge"), 1)


def test_a_logical_core_of_trn2_has_more():
    trn2 = get_instance("trn2.48xlarge")
    assert "of 24 GiB" in check_memory(needs(GIB, GIB), trn2, 2)
    assert "of 12 GiB" in check_memory(needs(GIB, GIB), trn2, 1)


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 56, dtype=torch.uint8), lambda: bytearray(1 << 56)])
def test_what_the_host_cannot_hold(allocate):
    with pytest.raises(InvalidExportOption, match="does not hold the inputs of one run; use a smaller --batch_size"):
        with within_host_memory():
            allocate()
    with pytest.raises(RuntimeError, match="another"), within_host_memory():
        raise RuntimeError("another")
