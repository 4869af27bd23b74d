"""Embeddings that are kept: what runs, what is counted, and that nothing is mixed up."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.runtime.prompt_cache import PromptCache

from .stand_in import Program, draw, encode


@pytest.fixture
def cache() -> PromptCache:
    return PromptCache(Program(lambda ids: encode(ids, 3)), limit=3)


def ids(*rows: int) -> torch.Tensor:
    return torch.tensor([[row, 7] for row in rows])


def test_each_prompt_is_encoded_once(cache):
    first = cache(ids(1, 2, 1, 1))["last_hidden_state"]
    assert torch.equal(first, encode(ids(1, 2, 1, 1), 3)["last_hidden_state"])
    assert (cache.program.rows, cache.hits, cache.misses) == ([2], 2, 2)
    second = cache(ids(2, 3, 1))["last_hidden_state"]
    assert torch.equal(second, encode(ids(2, 3, 1), 3)["last_hidden_state"])
    assert (cache.program.rows, cache.hits, cache.misses) == ([2, 1], 4, 3)


def test_the_last_used_are_kept(cache):
    for number in (1, 2, 3, 1, 4):
        cache(ids(number))
    assert len(cache) == 3
    cache(ids(1, 3, 4))
    assert cache.misses == 4
    cache(ids(2))
    assert cache.misses == 5
    cache(ids(*range(10, 20)))  # more at once than are kept
    assert len(cache) == 3
    cache.clear()
    assert len(cache) == 0


def test_what_is_returned_may_be_changed(cache):
    cache(ids(1))["last_hidden_state"].zero_()
    assert torch.equal(cache(ids(1))["last_hidden_state"], encode(ids(1), 3)["last_hidden_state"])


def test_nothing_is_kept_at_a_limit_of_zero(cache):
    cache.limit = 0
    for _ in range(2):
        cache(ids(1, 1))
    assert (cache.program.rows, cache.hits, cache.misses, len(cache)) == ([2, 2], 0, 0, 0)


def test_threads_encode_a_prompt_once(cache):
    cache.program.seconds = 0.005
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: cache(ids(number % 2))["last_hidden_state"], range(16)))
    assert cache.program.rows == [1, 1]
    for number, result in enumerate(results):
        assert torch.equal(result, encode(ids(number % 2), 3)["last_hidden_state"])


def test_the_pipeline_encodes_the_negative_prompt_once(stand_in):
    pipe = stand_in()
    pictures = [draw(pipe, prompt) for prompt in ("a red cat", "a blue dog", ["a red cat", "a blue dog"])]
    (encoder,) = pipe.stand_ins["text_encoder"]
    assert encoder.rows == [1, 1, 1]  # the compiled batch is one
    assert (pipe.prompt_cache.hits, pipe.prompt_cache.misses) == (5, 3)
    assert np.array_equal(pictures[0][0], draw(pipe, "A red CAT ")[0]), "cleaned, it is the same prompt"
    assert encoder.rows == [1, 1, 1]
    pipe.prompt_cache.limit = 0
    assert np.array_equal(pictures[0], draw(pipe, "a red cat"))
    assert encoder.rows == [1] * 5


def test_a_folder_of_the_stock_exporter_has_none(stand_in):
    assert stand_in(ours=False).prompt_cache is None
