"""The process that tries hostile repositories, one after the other: `python -m tests.hostile.child FOLDER SEED EVERY`.

It writes a line for each case into FOLDER/endings, so that what ends the process shows by the lines that are missing.
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .bases import link_tree, make_bases
from .grammar import Case, cases
from .ground import Ground, state
from .guards import Watch, bound_memory, bounded_time, peak_bytes

ENDINGS = "endings"
_VICTIM = b"of the user's" * 10


@dataclass(frozen=True)
class Ending:
    """How one case ended.

    Attributes:
        refused: by attempt, the error of ours and its message, for those that were refused.
        taken: attempts that ended well.
        wrong: what must not have happened, a line each.
        bytes: of memory that the process needed more than ever before.
    """

    refused: dict[str, tuple[str, str]]
    taken: list[str]
    wrong: list[str]
    bytes: int


def try_all(chosen: Iterable[Case], folder: Path) -> Iterator[tuple[Case, Ending]]:
    """Make each case below a folder, and try it."""
    from .attempt import nothing_compiles_or_starts

    bases = make_bases(folder / "bases")
    watch = Watch()
    with nothing_compiles_or_starts():
        for case in chosen:
            yield case, _try(case, bases[case.target], folder / "case", watch)
            shutil.rmtree(folder / "case")


def _try(case: Case, base: Path, place: Path, watch: Watch) -> Ending:
    from .attempt import attempts

    victim, scratch = place / "victim", place / "scratch"
    scratch.mkdir(parents=True)
    victim.write_bytes(_VICTIM)
    ground = Ground(target=case.target, folder=place / "repository", victim=victim, numbers=case.random)
    link_tree(base, ground.folder)
    case.make(ground)
    before, modules = state(ground.folder), set(sys.modules)
    refused, taken, wrong = {}, [], []
    memory = peak_bytes()
    os.chdir(ground.folder)
    with bounded_time(), watch.of(ground.folder) as seen:
        for name, attempt in attempts(case.target, ground.folder, scratch).items():
            try:
                attempt()
                taken.append(name)
            except BaseException as error:
                refused[name] = (type(error).__name__, str(error))
                wrong += [f"{name}: {problem}" for problem in _problems(error)]
    os.chdir("/")
    wrong += seen
    if victim.read_bytes() != _VICTIM:
        wrong.append("code of it wrote a file")
    if state(ground.folder) != before:
        wrong.append("its files were changed")
    evil = [name for name in set(sys.modules) - modules if name.partition(".")[0] in ("evil", "pipeline")]
    wrong += [f"imported {name}" for name in evil]
    return Ending(refused=refused, taken=taken, wrong=wrong, bytes=peak_bytes() - memory)


def _problems(error: BaseException) -> list[str]:
    from optimum_pixart_neuron.errors import LoadError, PixArtNeuronError

    if not isinstance(error, PixArtNeuronError) or isinstance(error, LoadError):
        return ["".join(traceback.format_exception(error))[-3000:]]  # a library found it, not we
    message = str(error)
    if not message.isprintable() or not 20 <= len(message) <= 2001:
        return [f"no line for a user: {message!r}"]
    return []


def main() -> None:
    folder, seed, every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    import torch

    torch.set_num_threads(1)

    bound_memory()
    with (folder / ENDINGS).open("w") as lines:
        for case, ending in try_all(cases(seed)[::every], folder):
            print(json.dumps([str(case), asdict(ending)]), file=lines, flush=True)


if __name__ == "__main__":
    main()
