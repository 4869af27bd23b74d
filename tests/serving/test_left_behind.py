"""What a killed command leaves of its Ray is ended by the process that watches it."""

import signal
import subprocess
import sys

import psutil
import pytest

from tests.serving.conftest import alive, wait_until

COMMAND = """
import os, subprocess, sys, time
from pathlib import Path
from optimum_pixart_neuron.process.start import ModuleProcess
from optimum_pixart_neuron.serving import left_behind
ModuleProcess(left_behind.__name__, [sys.argv[1], str(os.getpid())], watched=False)
os.chdir(Path(sys.argv[1]) / "empty")
child = subprocess.Popen([sys.executable, "-c", "import os, time; os.fork(); time.sleep(600)"])
os.chdir(sys.argv[2])
bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(2)
print(bystander.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.seconds
def test_all_that_worked_in_the_private_folder_ends_and_nothing_else(tmp_path):
    private, user = tmp_path / "private", tmp_path / "user"
    (private / "empty").mkdir(parents=True)
    user.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, private, user], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    bystander = psutil.Process(int(command.stdout.readline()))
    try:
        family = psutil.Process(command.pid).children(recursive=True)
        family.remove(bystander)
        assert len(family) == 3
        family[0].send_signal(signal.SIGTERM)  # as a signal for the whole group; the watcher stays
        command.kill()
        command.wait()
        wait_until(lambda: not alive(family) and not private.exists(), 60, "the end of what was left")
    finally:
        bystander.kill()
        command.stdout.close()
