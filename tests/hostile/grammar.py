"""Which hostile repositories there are: kinds of changes, what each is made on, and the cases that a seed draws.

    case   -> target kind                       one kind changes one thing of a copy of a whole folder
    target -> export | export without manifest | checkpoint | LoRA beside a checkpoint
    kind   -> a change of a JSON document | a file that is none | planted code | safetensors | archive | manifest

Whatever is changed, the manifest of an export has the right digest of it, as a stranger would see to.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import archives, listed, planted, weights
from .bases import CHECKPOINT, EXPORT, LORA, STOCK, TARGETS
from .documents import BREAKS, CHANGES
from .ground import INDEX, MANIFEST, Ground

EXPORTS = (EXPORT, STOCK)


@dataclass(frozen=True)
class Kind:
    """One kind of change.

    Attributes:
        name: also the start of the ids of its cases.
        make: does it.
        count: of cases that are drawn.
        targets: what it is made on.
        refused: targets on which nothing of it can be harmless; on others a case may be taken, and does no harm.
        sealed: whether the manifest of an export has the right digest of what was changed.
    """

    name: str
    make: Callable[[Ground], None]
    count: int
    targets: tuple[str, ...] = TARGETS
    refused: tuple[str, ...] = ()
    sealed: bool = True


def _change_document(ground: Ground, how: Callable, *, only: tuple[str, ...] = ()) -> None:
    name = ground.choose(*(only or ground.documents))
    ground.write(name, how(ground.document(name), ground.numbers))


def _oversized(ground: Ground) -> None:
    """More than is read of a file; it takes no room on the disk."""
    name = ground.choose(*ground.documents, "tokenizer/spiece.model")
    ground.write(name, b"{")
    os.truncate(ground.folder / name, ground.choose(40 << 20, 1 << 40))
    if (ground.folder / name).stat().st_size < 1 << 32:
        ground.seal()


def _irregular(ground: Ground) -> None:
    """Something else than a file under the name of one."""
    more = () if ground.target == LORA else ("tokenizer/spiece.model",)
    name = ground.choose(*ground.documents, *ground.weights, *more)
    ground.remove(name)
    path, outside = ground.folder / name, ground.folder.parent / "outside"
    outside.write_text("{}")
    ground.choose(
        *(lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to("/dev/zero"), lambda: path.symlink_to(path)),
        *(lambda: path.symlink_to(outside), lambda: path.symlink_to("/dev/stdin"), lambda: path.symlink_to("/proc")),
    )()


def _missing(ground: Ground) -> None:
    """Files of the folder that are gone; some can be done without."""
    ground.remove(ground.choose(*ground.documents, *ground.weights, "tokenizer", "scheduler", *ground.components))


def _of_documents(
    start: str, changes: dict[str, Callable], count: int, *targets: tuple[str, ...], only: tuple[str, ...] = (), **more
) -> list[Kind]:
    """A kind for each change of a document, of all of them or `only` of these."""
    return [
        Kind(f"{start} {name}", partial(_change_document, how=how, only=only), count, *targets, **more)
        for name, how in changes.items()
    ]


_SMALL_FILES = ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")

KINDS = (
    *_of_documents("document", CHANGES, 9),
    *_of_documents("document", BREAKS, 3, refused=TARGETS),
    *_of_documents("tokenizer or scheduler", CHANGES, 3, only=_SMALL_FILES),
    *_of_documents("index", CHANGES, 1, only=(INDEX,)),
    *_of_documents("manifest", {**CHANGES, **BREAKS}, 1, (EXPORT,), only=(MANIFEST,), sealed=False),
    Kind("oversized", _oversized, 5, refused=TARGETS, sealed=False),
    Kind("irregular", _irregular, 7, refused=TARGETS, sealed=False),
    Kind("missing", _missing, 5),
    Kind("class of a copied part", planted.class_of_a_copied_part, 7, refused=TARGETS),
    Kind("class that is no name", planted.class_that_is_no_name, 3, refused=TARGETS),
    Kind("class of a compiled part", planted.class_of_a_compiled_part, 3),
    Kind("class of the pipeline", planted.class_of_the_pipeline, 3),
    Kind("component more", planted.component_more, 4, refused=EXPORTS),
    Kind("folder more", planted.folder_more, 3),
    Kind("auto_map", planted.auto_map, 4),
    Kind("class in a configuration", planted.class_in_a_configuration, 7),
    Kind("code beside", planted.code_beside, 3),
    Kind("code that the manifest lists", planted.code_listed, 3, (EXPORT,), refused=TARGETS, sealed=False),
    Kind("pickled weights", planted.pickled_weights, 3),
    Kind("pickles under known names", planted.pickles_under_known_names, 4, refused=TARGETS),
    Kind("header of another length", weights.header_of_another_length, 4, refused=TARGETS),
    Kind("header of other entries", weights.header_of_other_entries, 6, refused=TARGETS),
    Kind("header of other text", weights.header_of_other_text, 4, refused=TARGETS),
    Kind("header of any change", weights.header_of_any_change, 3),
    Kind("header of many entries", weights.header_of_many_entries, 2),
    Kind("other content of weights", weights.other_content, 4, refused=TARGETS),
    Kind("flipped bit of weights", weights.flipped_bit, 3),
    Kind("other names of weights", weights.other_names, 4),
    Kind("index of shards", weights.index_of_shards, 4, (CHECKPOINT,)),
    Kind("foreign archive", archives.foreign_archive, 2, EXPORTS, refused=TARGETS),
    Kind("changed records of an archive", archives.changed_records, 4, EXPORTS, refused=TARGETS),
    Kind("changed program", archives.changed_program, 4, EXPORTS),
    Kind("no archive", archives.no_archive, 4, EXPORTS),
    Kind("names in the manifest", listed.names_in_the_manifest, 4, (EXPORT,), refused=TARGETS, sealed=False),
    Kind("components in the manifest", listed.components_in_the_manifest, 2, (EXPORT,), TARGETS, sealed=False),
    Kind("numbers in the manifest", listed.numbers_in_the_manifest, 4, (EXPORT,), sealed=False),
    Kind("words in the manifest", listed.words_in_the_manifest, 3, (EXPORT,), sealed=False),
    Kind("many in the manifest", listed.many_in_the_manifest, 2, (EXPORT,), refused=TARGETS, sealed=False),
    Kind("digests in the manifest", listed.digests_in_the_manifest, 2, (EXPORT,), sealed=False),
    Kind("sizes of a program", listed.sizes_of_a_program, 6, EXPORTS),
    Kind("way of a program", listed.way_of_a_program, 6, EXPORTS),
)

_OF_A_LORA = (
    *_of_documents("LoRA: document", CHANGES, 2, (LORA,)),
    *_of_documents("LoRA: document", BREAKS, 1, (LORA,), refused=(LORA,)),
    *(
        Kind(f"LoRA: {name}", make, count, (LORA,), (LORA,) if refused else ())
        for name, make, count, refused in (
            ("irregular", _irregular, 3, False),
            ("header of another length", weights.header_of_another_length, 2, True),
            ("header of other entries", weights.header_of_other_entries, 5, True),
            ("header of other text", weights.header_of_other_text, 2, True),
            ("header of any change", weights.header_of_any_change, 3, False),
            ("header of many entries", weights.header_of_many_entries, 1, True),
            ("other content", weights.other_content, 2, True),
            ("numbers of other types", weights.numbers_of_other_types, 4, False),
            ("other names", weights.other_names, 3, False),
        )
    ),
)


@dataclass(frozen=True)
class Case:
    """One hostile repository; everything in it follows from the seed, its kind and its number within the kind."""

    kind: str
    target: str
    number: int
    seed: int

    @property
    def random(self) -> random.Random:
        return random.Random(f"{self.seed} {self}")

    @property
    def must_be_refused(self) -> bool:
        return self.target in _BY_NAME[self.kind].refused

    def make(self, ground: Ground) -> None:
        kind = _BY_NAME[self.kind]
        kind.make(ground)
        if kind.sealed:
            ground.seal()

    def __str__(self) -> str:
        return f"{self.kind}, {self.target} {self.number}"


_ALL = (*KINDS, *_OF_A_LORA)
_BY_NAME = {kind.name: kind for kind in _ALL}


def cases(seed: int) -> list[Case]:
    """What a seed draws; the targets of a kind take turns."""
    return [
        Case(kind=kind.name, target=kind.targets[number % len(kind.targets)], number=number, seed=seed)
        for kind in _ALL
        for number in range(kind.count)
    ]
