"""Children: what they import in a folder of strangers, what they get, and that they end with their parent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimum_pixart_neuron.process.start import ModuleProcess

# Whatever a child imports before or after its path is set, and two that Python looks for by itself.
SHADOWED = (
    *("json", "torch", "secrets", "random", "optimum", "runpy", "threading", "select", "signal", "time", "os"),
    *("importlib", "pkgutil", "types", "sitecustomize", "usercustomize", "optimum_pixart_neuron", "transformers"),
)


@pytest.fixture
def foreign(tmp_path, monkeypatch) -> Path:
    """The current folder, with a file for each name of a library; one that is imported leaves `ran`."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in SHADOWED:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that a child can run; returns its name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(source: str, name: str = "probe") -> str:
        (folder / f"{name}.py").write_text(source)
        return name

    return write


PROBE = """
import importlib, json, os, pkgutil, random, secrets, select, signal, sys, threading, time, types
import optimum_pixart_neuron.errors
with open(int(sys.argv[2]), "w") as answer:
    json.dump([sys.path, sys.argv[1], os.environ.get("PYTHONPATH"), optimum_pixart_neuron.__file__], answer)
"""


@pytest.mark.parametrize("variable", [None, "", ":", ".:..", "{foreign}", "{foreign}/:/somewhere"])
def test_nothing_of_the_current_folder_is_imported(foreign, module, tmp_path, monkeypatch, variable):
    name = module(PROBE)
    monkeypatch.setattr(sys, "path", ["", ".", str(foreign), f"{foreign}/.", tmp_path, *sys.path])
    if variable is not None:
        monkeypatch.setenv("PYTHONPATH", variable.format(foreign=foreign))
    nasty = "a 'b' $HOME \n ü"
    with (tmp_path / "answer").open("w+") as answer:
        assert ModuleProcess(name, [nasty], descriptors=[answer.fileno()]).wait(20) == 0
        answer.seek(0)
        path, given, python_path, package = json.load(answer)
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert path == [each for each in sys.path[5:] if not os.path.exists(each) or not os.path.samefile(each, foreign)]
    assert given == nasty
    assert python_path == ("/somewhere" if variable and "/somewhere" in variable else None)
    assert package == sys.modules["optimum_pixart_neuron"].__file__


def test_the_current_folder_is_gone(module, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ModuleProcess(module("import sys\nsys.exit(7)\n"), []).wait(20) == 7


CYCLE = """
import os

class Cycle:
    def __init__(self):
        self.own = self

    def __del__(self):
        os._exit(7)

Cycle()
"""


def test_the_end_does_not_look_for_cycles(module):
    """Among what torch and diffusers import it would take two seconds; `sys.exit` and `atexit` are as ever."""
    handler = "import atexit, sys\natexit.register(os._exit, 9)\nsys.exit(8)\n"
    assert ModuleProcess(module(CYCLE), []).wait(20) == 0
    assert ModuleProcess(module(CYCLE + handler), []).wait(20) == 9


def test_arguments_are_not_in_the_list_of_processes(module):
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    child = ModuleProcess(module("print(flush=True)\ninput()\n"), ["hf_secret"], **pipes)
    child.stdout.readline()
    command_line = Path(f"/proc/{child.pid}/cmdline").read_bytes()
    child.communicate(b"\n", timeout=20)
    assert b"probe" in command_line and b"secret" not in command_line


PARENT = """
import os, sys, threading, time
sys.path[:0] = {path!r}
from optimum_pixart_neuron.process.start import ModuleProcess

started = []
thread = threading.Thread(target=lambda: started.append(ModuleProcess("probe", {arguments!r})))
thread.start()
thread.join()
{more}
"""
# What the export does: clean up when it is told to end.
CLEANS = """
import os, signal, sys, time

def clean(*_):
    os.rename(sys.argv[1], sys.argv[2])
    sys.exit(0)

signal.signal(signal.SIGTERM, clean)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""


def wait_for(path: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


@pytest.mark.seconds
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a fork that lives on"])
def test_a_killed_parent_takes_its_child_along(module, tmp_path, forks):
    """The thread that started the child is over by then; that alone must not end the child."""
    running, cleaned = tmp_path / "running", tmp_path / "cleaned"
    module(CLEANS)
    more = "os.fork() or (os.close(1), time.sleep(20), os._exit(0))\ntime.sleep(60)" if forks else "time.sleep(60)"
    script = PARENT.format(path=sys.path[:1], arguments=[str(running), str(cleaned)], more=more)
    parent = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        wait_for(running)
        time.sleep(0.3)
        assert not cleaned.exists()
        parent.kill()
        wait_for(cleaned)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_standard_streams_that_are_closed(module, tmp_path):
    """Where they are missing the child's pipe must not take their numbers, nor the child's files."""
    module(
        "import os, sys\n"
        "assert [os.path.realpath(f'/proc/self/fd/{number}') for number in range(3)] == ['/dev/null'] * 3\n"
        "print('into nothing', file=sys.stderr)\n"
        "os.rename(sys.argv[1], sys.argv[2])\n"
    )
    (tmp_path / "before").touch()
    arguments = [str(tmp_path / "before"), str(tmp_path / "after")]
    script = PARENT.format(path=sys.path[:1], arguments=arguments, more="sys.exit(started[0].wait())")
    (tmp_path / "parent.py").write_text(script)
    command = 'exec "$0" "$1" 0<&- 1>&- 2>&-'
    assert subprocess.run(["sh", "-c", command, sys.executable, tmp_path / "parent.py"], timeout=20).returncode == 0
    assert (tmp_path / "after").exists()
