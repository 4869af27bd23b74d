"""Children of tests get signals, also where the tests are started in the background."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
from tests.conftest import unignore_signals
unignore_signals()
for number in (signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
child = "import signal; print([signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGHUP)])"
subprocess.run([sys.executable, "-c", child])
"""


def test_ignored_signals_are_not_handed_on():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[False, False]\n"), done.stderr
