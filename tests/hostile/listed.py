"""Cases in the manifest of an export, and in the `neuron` section of a `config.json`."""

import json
from collections.abc import Callable
from functools import wraps

from .documents import strange_value
from .ground import MANIFEST, Ground

_NAMES = (
    *("../evil.py", "/etc/passwd", "..\\evil.py", "transformer/../../evil", "transformer/evil.py", "a\x1b[2J.json"),
    *("tokenizer/evil.py", "scheduler/model_index.json", "unet/model.neuron", "", ".", "transformer/weights/x.bin"),
    *("transformer/weights/tp-1_sharded_checkpoint.safetensors", "x" * 5000, "~/.bashrc", "transformer//config.json"),
)
_WORDS = ("instance", "target", "parallel_mode", "model", "revision", "versions", "options", "emulated")
_SIZES = (10**9, 10**18, 2**63, -1, 0, 1.5, "2", True, None, [2], 10**40)


def _in_the_manifest(change: Callable[[Ground, dict], None]) -> Callable[[Ground], None]:
    """The case; the manifest's own digest, where there is one, is left out: anybody can compute it."""

    @wraps(change)
    def case(ground: Ground) -> None:
        document = ground.document(MANIFEST)
        document["sha256"] = None
        change(ground, document)
        ground.write(MANIFEST, json.dumps(document))

    return case


@_in_the_manifest
def names_in_the_manifest(ground: Ground, document: dict) -> None:
    document["files"][ground.choose(*_NAMES)] = {"size": 1, "sha256": "0" * 64, "sample": "0" * 64}


@_in_the_manifest
def components_in_the_manifest(ground: Ground, document: dict) -> None:
    name = ground.choose("../evil", "unet", "evil\x1b[2J", "", "/etc", "x" * 5000)
    document["components"][name] = document["components"]["transformer"]


@_in_the_manifest
def numbers_in_the_manifest(ground: Ground, document: dict) -> None:
    where = ground.choose("ranks", "lnc", "size", "shape", "of a component", "schema_version")
    size = ground.choose(*_SIZES)
    transformer = document["components"]["transformer"]
    if where == "size":
        document["files"][ground.choose(*sorted(document["files"]))]["size"] = size
    elif where == "shape":
        transformer["inputs"][0]["shape"] = ground.choose([size], [1] * 5000, size)
    elif where == "of a component":
        transformer["ranks"] = size
    else:
        document[where] = size


@_in_the_manifest
def words_in_the_manifest(ground: Ground, document: dict) -> None:
    key = ground.choose(*_WORDS)
    document[key] = strange_value(ground.numbers, document[key])


@_in_the_manifest
def many_in_the_manifest(ground: Ground, document: dict) -> None:
    record = next(iter(document["files"].values()))
    if ground.numbers.random() < 0.5:
        document["files"].update({f"transformer/{number}": record for number in range(15_000)})
    else:
        document["validation"] = [{"component": "x", "max_error": 0, "limit": ""}] * 30_000


@_in_the_manifest
def digests_in_the_manifest(ground: Ground, document: dict) -> None:
    name = ground.choose(*sorted(document["files"]))
    key = ground.choose("size", "sample", "sha256")
    value = document["files"][name][key]
    wrong = value + 1 if key == "size" else ground.choose("0" * 64, "", value.upper(), value + "0", None)
    document["files"][name][key] = wrong


def sizes_of_a_program(ground: Ground) -> None:
    name = f"{ground.choose(*ground.components)}/config.json"
    section = ground.document(name)["neuron"]
    sizes = sorted(key for key in section if key.startswith("static_"))
    key = ground.choose("tensor_parallel_size", "tensor_parallel_size", "lnc", *sizes)
    ground.rewrite(name, neuron={**section, key: ground.choose(*_SIZES)})


def way_of_a_program(ground: Ground) -> None:
    """How it is said to use the cores, and what stands at its borders."""
    name = f"{ground.choose(*ground.components)}/config.json"
    section = ground.document(name)["neuron"]
    parallel = section["parallel"]
    changes = ground.choose(
        *({"parallel": {**parallel, "ranks": ground.choose(*_SIZES)}}, {"parallel": {**parallel, "mode": "evil"}}),
        *({"parallel": {**parallel, "groups": [[10**9, -1]]}}, {"parallel": {**parallel, "exchange": "evil.Evil"}}),
        *({"parallel": {**parallel, "guided": "yes"}}, {"parallel": None}, {"parallel": []}, {"parallel": {}}),
        *({"float_dtype": "save"}, {"int_dtype": "load"}, {"torch_dtype": "evil"}, {"torch_dtype": ["float32"]}),
        *({"target": "../../etc"}, {"instance_type": "evil"}, {"compiler_version": "9" * 5000}, {"task": "evil"}),
        *({"model_type": "evil"}, {"input_names": ["evil"]}, {"static_evil": 7}, {"dynamic_batch_size": "maybe"}),
        *({"inline_weights_to_neff": "no"}, {"compiler_args": ["--evil"]}, {"attention": {"kernel": 7}}),
    )
    ground.rewrite(name, neuron={**section, **changes})
