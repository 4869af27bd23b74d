"""What a user is told when something is refused."""

from collections.abc import Callable, Sequence

import pytest

from optimum_pixart_neuron.commands.command import Command


def refusal(kind: type[Exception], act: Callable, *arguments, **options) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(kind) as refused:
        act(*arguments, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def command_refusal(command: Command, argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses its arguments; it ends with status 2, and prints nothing else."""
    capsys.readouterr()
    try:
        status = command.main(argv)
    except SystemExit as end:  # argparse's way out
        status = end.code
    shown = capsys.readouterr()
    start = f"{command.prog}: error: "
    assert (status, shown.out, shown.err.count("\n")) == (2, "", 1) and shown.err.startswith(start)
    return shown.err.removeprefix(start).removesuffix("\n")
