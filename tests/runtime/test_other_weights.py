"""Weights are changed between calls, whole or not at all; programs are stand-ins."""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from optimum_pixart_neuron.checkpoint.adapters import NamedAdapter
from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.errors import InvalidArgument, LoadError, PixArtNeuronError
from optimum_pixart_neuron.lora.adapter import Adapter
from optimum_pixart_neuron.runtime.loaded_adapters import LoadedAdapters
from optimum_pixart_neuron.runtime.rank_weights import StoredWeights
from optimum_pixart_neuron.runtime.turns import CallsOrChange


@dataclass
class Weights:
    """Stands for the weight files of a component: what they would become is told in words."""

    part: str

    def by_rank(self, adapters, replaced):
        return [(replaced, *((each.adapter.path, each.strength) for each in adapters))]


@dataclass
class Program:
    """Remembers what it began with; one that is `broken` does not begin with an adapter of that path."""

    has: object = (None,)
    begun: int = 0
    broken: object = None

    def initialize(self, weights):
        self.begun += 1
        (self.has,) = weights
        if any(name == self.broken for name, _ in self.has[1:]):
            raise RuntimeError("out of memory")


@dataclass
class Loaded:
    transformer: Program = field(default_factory=Program)
    text_encoder: Program = field(default_factory=Program)
    calls: CallsOrChange = field(default_factory=CallsOrChange)
    forgotten: list[str] = field(default_factory=list)

    def __post_init__(self):
        names = ("transformer", "text_encoder")
        self.adapters = LoadedAdapters(
            {name: (Weights(name), getattr(self, name)) for name in names}, self.calls, self.forgotten.append
        )

    def add(self, name: str, *parts: str, path: str = "") -> None:
        changes = {part: {"a.weight": None} for part in parts or ("transformer",)}
        adapter = Adapter(path=path or name, changes=changes)
        self.adapters.add(NamedAdapter(name=name, model=name, revision=None, file=name, adapter=adapter))


def test_the_first_is_used_at_once_and_others_when_named():
    loaded = Loaded()
    loaded.add("a")
    loaded.add("b", "transformer", "text_encoder")
    assert (loaded.transformer.has, loaded.transformer.begun, loaded.text_encoder.begun) == ((None, ("a", 1.0)), 1, 0)
    assert loaded.adapters.loaded == {"transformer": ["a", "b"], "text_encoder": ["b"]}
    loaded.adapters.use(["b", "a"], [2, None])
    assert loaded.transformer.has == (None, ("b", 2.0), ("a", 1.0))
    assert loaded.text_encoder.has == (None, ("b", 2.0))
    assert loaded.forgotten == ["transformer", "transformer", "text_encoder"]
    loaded.adapters.use(["b", "a"], [2, 1])
    assert loaded.transformer.begun == 2, "nothing changes, so no program begins again"


def test_the_same_place_at_another_time_is_another(tiny_checkpoint):
    """Somebody trains on, and saves where the former ones were."""
    loaded = Loaded()
    loaded.add("before", path="out")
    loaded.add("after", path="out")
    loaded.adapters.use("after", 1)
    assert loaded.transformer.begun == 2
    for begun in (3, 4):
        found = ComponentWeights.find(tiny_checkpoint / "transformer", DENOISER.part.stem, None)
        loaded.adapters.replace(DENOISER, StoredWeights.of(found))
        assert loaded.transformer.begun == begun


def test_a_name_that_nobody_gives_is_a_free_one():
    loaded = Loaded()
    loaded.add("default_1")
    assert loaded.adapters.next_name() == "default_2"


def test_another_transformer_keeps_the_adapters():
    loaded = Loaded()
    loaded.add("a")
    loaded.adapters.replace(DENOISER, "other")
    assert (loaded.transformer.has, loaded.text_encoder.begun) == (("other", ("a", 1.0)), 0)
    loaded.adapters.remove()
    assert (loaded.transformer.has, loaded.adapters.is_own) == (("other",), False)
    loaded.adapters.replace(DENOISER, None)
    assert (loaded.transformer.has, loaded.adapters.is_own) == ((None,), True)


def test_what_fails_leaves_everything_as_it_was():
    loaded = Loaded(text_encoder=Program(broken="b"))
    loaded.add("a")
    loaded.add("b", "transformer", "text_encoder")
    with pytest.raises(LoadError, match="the text_encoder does not begin with other weights: out of memory"):
        loaded.adapters.use("b", 1)
    assert (loaded.transformer.has, loaded.text_encoder.has) == ((None, ("a", 1.0)), (None,))
    assert (loaded.adapters.active, loaded.forgotten) == ({"a": 1.0}, ["transformer"])
    alone = Loaded(transformer=Program(broken="x"))
    with pytest.raises(LoadError):
        alone.add("x")
    assert (alone.transformer.has, alone.adapters.active, alone.adapters.loaded["transformer"]) == ((None,), {}, [])


@pytest.mark.parametrize(
    ("names", "strengths", "message"),
    [
        ("c", 1, "there is no 'c'; loaded are a, b"),
        (["a", "a"], 1, "one is named twice"),
        (["a", "b"], [1], "1 given for 2 adapters"),
        (["a"], ["much"], "expected a finite number for a, given 'much'"),
        (["a"], float("nan"), "expected a finite number for a, given nan"),
        (["a"], True, "expected a finite number for a, given True"),
        (None, 1, "adapter_names: expected a name or a list of names, given None"),
    ],
)
def test_names_and_weights_that_there_are_not(names, strengths, message):
    loaded = Loaded()
    loaded.add("a")
    loaded.add("b")
    with pytest.raises(InvalidArgument, match=message):
        loaded.adapters.use(names, strengths)
    with pytest.raises(InvalidArgument, match="an adapter of this name is loaded"):
        loaded.add("b")
    assert loaded.adapters.active == {"a": 1.0}


def test_a_program_that_holds_its_weights():
    adapters = LoadedAdapters({"transformer": None}, CallsOrChange(), print)
    for asked in (adapters.geometry, lambda: adapters.exported(DENOISER)):
        with pytest.raises(PixArtNeuronError, match="the transformer holds its weights in its machine code"):
            asked()


def test_a_change_waits_for_calls_and_later_calls_for_it():
    loaded, order = Loaded(), []
    under_way, go_on = threading.Event(), threading.Event()

    def call():
        with loaded.calls.call():
            under_way.set()
            go_on.wait(30)
            with loaded.calls.call():  # of a callback: would wait for ever if it waited for the change
                order.append("call")

    def change():
        loaded.add("a")
        order.append("change")

    def later():
        with loaded.calls.call():
            order.append(f"later, with {len(loaded.adapters.active)}")

    with ThreadPoolExecutor(3) as pool:
        pool.submit(call)
        under_way.wait(30)
        pool.submit(change)
        while not loaded.calls._waiting:
            time.sleep(0.01)
        pool.submit(later)
        assert order == [] and loaded.transformer.begun == 0
        go_on.set()
    assert order[0] == "call" and sorted(order[1:]) == ["change", "later, with 1"]


def test_a_change_inside_a_call_is_refused():
    loaded = Loaded()
    with loaded.calls.call(), pytest.raises(InvalidArgument, match="cannot be changed from inside a call"):
        loaded.add("a")
    loaded.add("a")
    assert loaded.adapters.active == {"a": 1.0}


def test_copies_share_programs_and_weights():
    loaded = Loaded()
    assert copy.deepcopy(loaded.adapters) is loaded.adapters
    assert copy.deepcopy(loaded.calls) is loaded.calls
