"""Several threads that draw with one pipeline at once."""

from . import actions
from .stage import Stage


def draw_in_threads(stage: Stage) -> str:
    """Each picture is the one that is drawn alone."""
    numbers = stage.fault.random
    threads = numbers.randint(2, 8)
    pictures = [numbers.randrange(len(actions.PROMPTS)) for _ in range(threads)]
    folder = stage.undisturbed.export
    with stage.keeping(folder):
        drawn = stage.succeed(actions.draw_together, folder, pictures, 10 ** numbers.uniform(-6, -2)).result
    assert drawn == [stage.undisturbed.drawn[picture] for picture in pictures]
    assert not stage.undisturbed.warm.shared_memory()
    return f"{threads} threads"
