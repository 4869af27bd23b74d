"""model_index.json: what a pipeline is made of, read as data.

diffusers and optimum-neuron import the library and look up the class that stand in it. Here they are words, which the
parts that are loaded compare with the ones they know; those that are compiled are told by their own configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..components.registry import PARTS
from ..errors import PixArtNeuronError, printable
from ..files import read_json

_LONGEST_NAME = 200


@dataclass(frozen=True)
class ModelIndex:
    """One model_index.json.

    Attributes:
        class_name: of the pipeline; None where it does not say.
        diffusers_version: that wrote it.
        entries: library and class of each component of PixArt-Sigma that it lists.
        others: names of the components that it lists and PixArt-Sigma does not have, such as `feature_extractor`.
    """

    class_name: str | None
    diffusers_version: str | None
    entries: dict[str, tuple[str, str]]
    others: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, raises: type[PixArtNeuronError], *, advice: str = "") -> ModelIndex:
        """Read the file.

        Raises:
            PixArtNeuronError: of the type `raises`: it is missing, or is no index.
        """
        end = f"; {advice}" if advice else ""
        content = read_json(path, raises, advice=advice)
        entries, others = {}, []
        for name, value in content.items():
            if name.startswith("_") or not isinstance(value, list):
                continue  # settings of the pipeline
            pair = tuple(value[:2])
            if len(pair) < 2 or not all(map(_is_word_or_none, pair)):
                raise raises(f"{path}: {printable(name)} does not name a library and a class{end}")
            if None in pair:
                continue  # a component that the pipeline does without
            if name in PARTS:
                entries[name] = pair
            else:
                others.append(printable(name))
        said = {name: content.get(name) for name in ("_class_name", "_diffusers_version")}
        wrong = next((name for name, word in said.items() if not _is_word_or_none(word)), None)
        if wrong:
            raise raises(f"{path}: {wrong} is not a name{end}")
        class_name, diffusers_version = said.values()
        return cls(class_name, diffusers_version, entries, tuple(others))


def _is_word_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST_NAME)
