"""Who owns what in context mode, and that every weight of a split program is one that the program reads."""

import pytest
import torch

from optimum_pixart_neuron.parallel.split import ContextSplit

from .traces import trace

TINY = {"caption_channels": 24, "sample_size": 32, "num_layers": 1, "use_additional_conditions": False}


def test_ranks_of_a_group_are_adjacent():
    split = ContextSplit(ranks=8, guidance_groups=2, exchange="gather")
    assert split.groups == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert ContextSplit(ranks=3, guidance_groups=1, exchange="gather").groups == [[0, 1, 2]]
    numbers = split.added_weights()["rank_numbers.rank"].unflatten(0, (8, 3))
    assert numbers[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert numbers[:, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert numbers[:, 2].tolist() == [0, 1, 2, 3, 4, 5, 6, 7], "without the pair all share the tokens of one row"


@pytest.mark.seconds
@pytest.mark.parametrize(("ranks", "groups"), [(2, 2), (2, 1), (4, 2)])
def test_every_weight_is_read_by_the_program(ranks, groups):
    split = ContextSplit(ranks=ranks, guidance_groups=groups, exchange="gather")
    traced = trace(split, TINY, tokens=20, dtype=torch.float32).graph
    assert set(split.added_weights()) <= set(traced.weight_names)
    placeholders = [node for node in traced.graph_module.graph.nodes if node.op == "placeholder"]
    unread = [name for name, node in zip(traced.weight_names, placeholders) if not node.users]
    assert unread == []
