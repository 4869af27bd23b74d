"""Replicas that the nodes do not hold are refused, where Ray would wait; the ones they hold are found."""

from dataclasses import replace

import pytest

from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.serving.server.options import ServeOptions
from optimum_pixart_neuron.serving.server.places import count_replicas
from tests.serving.painter import exported


def of(*cores: int) -> list:
    return [replace(exported(name=f"e{number}"), cores=each) for number, each in enumerate(cores)]


def options(**given) -> ServeOptions:
    return ServeOptions(exports=["e"], **given)


@pytest.mark.parametrize(
    ("cores", "nodes", "count"),
    [
        ((2,), [2], 1),
        ((8,), [32, 32], 8),
        ((2, 2), [2, 2], 1),  # one export a node: no node holds both
        ((8, 4), [32, 32], 5),
        ((8, 8), [32], 2),
        ((2,), [0, 3], 1),  # a head without cores
    ],
)
def test_as_many_as_fit(cores, nodes, count):
    assert count_replicas(options(), of(*cores), nodes) == count


@pytest.mark.parametrize("given", [{}, {"replicas": 1}, {"max_replicas": 2}])
def test_exports_that_fit_alone_but_not_together_are_refused(given):
    with pytest.raises(
        InvalidExportOption, match=r"not enough cores for 1 of each of e0 \(2\), e1 \(2\); serve fewer exports"
    ):
        count_replicas(options(**given), of(2, 2), [2])


def test_a_replica_does_not_span_nodes():
    with pytest.raises(InvalidExportOption, match="not enough cores"):
        count_replicas(options(replicas=1), of(4), [2, 2])


def test_more_than_the_start_needs_is_left_to_the_requests():
    assert count_replicas(options(max_replicas=9), of(2), [4]) == 1
    assert count_replicas(options(replicas=2, max_replicas=9), of(2), [4]) == 2
