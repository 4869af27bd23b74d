"""A stand-in for neuronx-cc: a script that the emulator runs in its place, told how to end."""

import shlex
from pathlib import Path

from optimum_pixart_neuron.emulator.neuronx_cc import COMPILER_VARIABLE

_SCRIPT = """\
#!/bin/sh
# compile --framework=XLA GRAPH --output NEFF FLAGS...
here=$(dirname "$0")
pwd >> "$here/folders"
echo "$@" >> "$here/calls"
graph=$3 neff=$5
for word in "$@"; do
  case $word in --logfile=*) log=${word#--logfile=};; esac
done
. "$here/behaviour"
[ -z "$log" ] || echo "INFO: done" >> "$log"
cp "$graph" "$neff"
"""


class StandInCompiler:
    """The script; it compiles until it is told something else.

    Args:
        folder: where it lies; made here.
    """

    def __init__(self, folder: Path, monkeypatch) -> None:
        self._folder = folder
        folder.mkdir()
        script = folder / "neuronx-cc"
        script.write_text(_SCRIPT)
        script.chmod(0o700)
        self.compiles()
        monkeypatch.setenv(COMPILER_VARIABLE, shlex.quote(str(script)))

    def compiles(self, *, leaves: str = "") -> None:
        """Compile, and make an empty folder of this name in the current folder."""
        self._behave(f"mkdir -p {shlex.quote(leaves)}" if leaves else ":")

    def fails(self, message: str) -> None:
        """Write a message to the log and to stderr, and end with status 70."""
        self._behave(f'echo {shlex.quote(message)} >> "$log"; echo {shlex.quote(message)} >&2; exit 70')

    def is_killed(self) -> None:
        """By SIGKILL, as a process that takes too much memory."""
        self._behave("kill -9 $$")

    def hangs(self) -> None:
        """Until it is interrupted."""
        self._behave('echo $$ > "$here/hanging"; exec sleep 1000')

    @property
    def hanging(self) -> int | None:
        """The process that hangs."""
        file = self._folder / "hanging"
        text = file.read_text() if file.exists() else ""
        return int(text) if text.strip() else None

    @property
    def calls(self) -> list[str]:
        """The command lines so far."""
        return self._lines("calls")

    @property
    def folders(self) -> list[str]:
        """The current folder of each call."""
        return self._lines("folders")

    def _lines(self, name: str) -> list[str]:
        file = self._folder / name
        return file.read_text().splitlines() if file.exists() else []

    def _behave(self, commands: str) -> None:
        (self._folder / "behaviour").write_text(commands + "\n")
