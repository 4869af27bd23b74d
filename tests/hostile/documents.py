"""Changes of JSON documents: what a stranger may write where a known value is expected."""

import json
import random
from collections.abc import Callable
from typing import Any

DEEP = 100_000
"""Levels of a value that nobody can read by recursion."""
_RAW = "@raw@"

_NUMBERS = (0, -1, 2**31, 10**9, 10**18, -(10**18), 10**30, 0.5, 1e308, float("inf"), float("nan"), True)
_WORDS = (
    *("", "\0", "\n", "../../../etc/passwd", "/dev/zero", "evil", "evil.Evil", "os.system", "\x1b[2J\x1b]0;x\x07"),
    *("\u202eeman", "a" * 100_000, "${HOME}", "{0.__class__}", "float32", "save", "1000"),
)
_CONTAINERS: tuple[Any, ...] = ([], {}, None, [[[]]], [None] * 1000, {"a": {"b": {}}}, ["evil", "Evil"], {"": 0})
_KEYS = (
    *("auto_map", "custom_pipeline", "trust_remote_code", "_target_", "__class__", "__init__", "quantization_config"),
    *("torch_dtype", "dtype", "num_labels", "id2label", "pruned_heads", "_name_or_path", "model_file", "vocab_file"),
    *("num_train_timesteps", "prediction_type", "architectures", "attn_implementation", "", "a b"),
)


def strange_value(numbers: random.Random, instead_of: Any = None) -> Any:
    """A value of another type, or of the same one beyond all bounds."""
    pool = numbers.choice((_NUMBERS, _WORDS, _CONTAINERS))
    value = numbers.choice([each for each in pool if each != instead_of or type(each) is not type(instead_of)])
    return value


def node(document: Any, numbers: random.Random) -> tuple[Any, Any]:
    """A container in a document, and the key or index of something in it; those near the top are likelier."""
    container, key = document, numbers.choice(_keys(document))
    while isinstance(container[key], dict | list) and container[key] and numbers.random() < 0.7:
        container = container[key]
        key = numbers.choice(_keys(container))
    return container, key


def _keys(container: Any) -> list[Any]:
    return sorted(container) if isinstance(container, dict) else list(range(len(container)))


def of_another_type(document: Any, numbers: random.Random) -> bytes:
    container, key = node(document, numbers)
    container[key] = strange_value(numbers, container[key])
    return written(document)


def of_another_size(document: Any, numbers: random.Random) -> bytes:
    """A number where there is a number, of another amount."""
    places = [place for place in _places(document) if type(place[0][place[1]]) in (int, float)]
    container, key = numbers.choice(places) if places else node(document, numbers)
    container[key] = numbers.choice(_NUMBERS)
    return written(document)


def without_a_key(document: Any, numbers: random.Random) -> bytes:
    container, key = node(document, numbers)
    del container[key]
    return written(document)


def with_a_key_more(document: Any, numbers: random.Random) -> bytes:
    containers = [document, *(each[key] for each, key in _places(document) if isinstance(each[key], dict))]
    numbers.choice(containers[:20])[numbers.choice(_KEYS)] = strange_value(numbers)
    return written(document)


def with_a_deep_value(document: Any, numbers: random.Random) -> bytes:
    container, key = node(document, numbers)
    container[key] = _RAW
    opening, closing = numbers.choice((("[", "]"), ('{"a":', "}")))
    inside = "0" if opening != "[" else ""
    text = opening * DEEP + inside + closing * DEEP if numbers.random() < 0.7 else opening * DEEP
    return written(document).replace(json.dumps(_RAW).encode(), text.encode())


def with_a_key_twice(document: Any, numbers: random.Random) -> bytes:
    key = numbers.choice(sorted(document))
    again = json.dumps({key: strange_value(numbers)})[1:-1]
    return written(document).rstrip()[:-1] + f", {again}}}".encode()


def broken(document: Any, numbers: random.Random) -> bytes:
    """No JSON object any more."""
    text = written(document)
    return numbers.choice(
        (
            *(b"", b"null", b"[]", b"0", b'"text"', b"NaN", b"\xff\xfe\x00", b"{", b"{}{}", b"[" * DEEP, b"\0" * 100),
            *(text[: numbers.randrange(1, len(text) - 1)], text.decode().encode("utf-16"), b'{"a": ' + b"9" * 5000),
        )
    )


CHANGES: dict[str, Callable[[Any, random.Random], bytes]] = {
    "of another type": of_another_type,
    "of another size": of_another_size,
    "without a key": without_a_key,
    "with a key more": with_a_key_more,
}
"""What is left may be harmless."""
BREAKS: dict[str, Callable[[Any, random.Random], bytes]] = {
    "with a deep value": with_a_deep_value,
    "with a key twice": with_a_key_twice,
    "broken": broken,
}
"""Nothing reads what is left."""


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found, pending = [], [document]
    while pending:
        container = pending.pop()
        for key in _keys(container):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                pending.append(container[key])
    return found


def written(document: Any) -> bytes:
    return json.dumps(document).encode(errors="surrogatepass")
