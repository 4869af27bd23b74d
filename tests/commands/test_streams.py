"""Standard output that is closed, full or a broken pipe: one line, the right status, and nothing of Python's own."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.commands import host
from optimum_pixart_neuron.commands.streams import StreamLost, checked_streams

LINES = "import sys; from optimum_pixart_neuron.commands.frame import run_main\nsys.exit(run_main('prog', lambda: {}))"
LITTLE = LINES.format("print('a line')")
MUCH = LINES.format("[print('a line') for _ in range(100_000)]")


def run(script: str, *, stdout: str, stderr: str = "") -> tuple[int, str]:
    """Status, and what is on standard error; in a shell, which knows all these streams."""
    command = f'"$0" -c "$1" {stdout} {stderr}'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", sys.executable, script], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.seconds
@pytest.mark.parametrize("script", [LITTLE, MUCH], ids=["at the end", "in between"])
@pytest.mark.parametrize(
    ("stdout", "status", "reason"),
    [
        (">&-", 1, "is closed; send it to a file or to /dev/null"),
        (">/dev/full", 1, "cannot be written: No space left on device"),
        ("| (exec <&-; sleep 0.5)", 141, "cannot be written: Broken pipe"),
    ],
    ids=["closed", "full", "broken pipe"],
)
def test_what_cannot_be_written(script, stdout, status, reason):
    if "|" in stdout:
        script = f"import time; time.sleep(0.2)\n{script}"
    assert run(script, stdout=stdout) == (status, f"prog: error: standard output {reason}\n")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_a_refusal_that_nobody_can_read_has_its_status(stderr):
    script = LINES.format(
        "(_ for _ in ()).throw(__import__('optimum_pixart_neuron.errors').errors.ArtifactError('x'))"
    )
    assert run(script, stdout="", stderr=stderr) == (2, "")


def test_a_command_says_at_once_that_its_output_is_closed(monkeypatch, capsys):
    monkeypatch.setattr(host, "run_child", lambda *_: pytest.fail("it ran"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(SystemExit) as end:
            host._run_child("module", "prog")
    assert end.value.code == 1
    assert capsys.readouterr().err == "prog: error: standard output is closed; send it to a file or to /dev/null\n"


def test_the_streams_come_back_and_are_what_they_were(monkeypatch):
    written = []
    stream = SimpleNamespace(write=written.append, flush=lambda: None, isatty=lambda: True, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    with checked_streams():
        print("text")
        assert sys.stdout.isatty() and sys.stdout.encoding == "utf-8"
    assert sys.stdout is stream and "".join(written) == "text\n"


def test_a_stream_that_is_lost_is_no_full_disk_of_the_export(monkeypatch, tmp_path, capsys):
    from optimum_pixart_neuron.export.unfinished import unfinished_export

    def write(text):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=write, flush=lambda: None))
    with pytest.raises(StreamLost), checked_streams(), unfinished_export(tmp_path / "out", [], force=False):
        print("compiling")
    assert list(tmp_path.iterdir()) == []
