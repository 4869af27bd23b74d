"""What the frame of a command shows of the package's log, and where."""

import logging

import pytest
from rich.table import Table

from optimum_pixart_neuron.commands.frame import run_main

logger = logging.getLogger("optimum_pixart_neuron.export.exporter")


@pytest.fixture
def table() -> Table:
    made = Table("component", "verdict")
    made.add_row("first", "[green]ok[/green]")
    return made


def test_progress_is_on_stdout_as_it_is_and_warnings_are_on_stderr(capsys, table):
    def work():
        logger.debug("nothing")
        logger.info("  cores       [4] %s")
        logger.info("plain table", extra={"rich": table})
        logger.warning("kept it")

    assert run_main("optimum-cli", work) == 0
    assert tuple(capsys.readouterr()) == (
        "  cores       [4] %s\nplain table\n",
        "optimum_pixart_neuron: kept it\n",
    )


def test_a_terminal_gets_the_table(capsys, monkeypatch, table):
    def work():
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        logger.info("plain table", extra={"rich": table})

    assert run_main("optimum-cli", work) == 0
    shown = capsys.readouterr().out
    assert "plain table" not in shown and "verdict" in shown and "[green]" not in shown


def test_after_a_command_the_log_is_as_before(capsys, logged):
    run_main("optimum-cli", lambda: None)
    logger.info("heard")
    assert logged.messages == ["heard"]
    assert tuple(capsys.readouterr()) == ("", "")
