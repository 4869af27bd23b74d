"""Repositories of strangers: other ones than those that `tests/hostile` tries in every run."""

from ..hostile.grammar import cases
from . import actions
from .stage import Stage

_TRIED = 20


def try_hostile(stage: Stage) -> str:
    """Try some; each ends in one line or does no harm."""
    numbers = stage.fault.random
    drawn = cases(numbers.randrange(1 << 30))
    chosen = numbers.sample(drawn, _TRIED)
    (stage.folder / "hostile").mkdir()
    with stage.keeping():
        wrong = stage.succeed(actions.try_hostile, chosen, stage.folder / "hostile").result
        assert not wrong, f"{stage.fault}: {wrong}"
    return f"{_TRIED} tried"
