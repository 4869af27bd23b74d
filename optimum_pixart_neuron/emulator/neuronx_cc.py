"""The emulated neuronx-cc: makes a program's bytes of a graph's, by a command line of flags.

What it makes of them is the same bytes: the emulator runs graphs. With `COMPILER_VARIABLE` a command does it in a
process of its own, called as the real compiler is; tests have one that fails, is killed or hangs.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .compiler_flags import split_flags

COMPILER_VARIABLE = "NEURON_EMULATOR_CC"
"""Environment variable with a command that is run instead: `COMMAND compile --framework=XLA GRAPH --output NEFF
FLAGS...`, in the current folder."""

LOG_FILE = "log-neuron-cc.txt"
_LOG_FLAG = "--logfile="


def compile_graph(graph: bytes, flags: str | Sequence[str], folder: Path) -> bytes:
    """Compile one graph.

    Args:
        graph: serialised, see `Program.to_bytes`.
        flags: as one string, split as a shell splits it, or word by word.
        folder: for intermediate files; made if it is missing.

    Raises:
        RuntimeError: the compiler does not understand its command line, fails, or is killed; with what it said last.
    """
    words = split_flags(flags)
    command = os.environ.get(COMPILER_VARIABLE)
    if not command:
        _log(words, f"compiled {len(graph)} bytes")
        return graph
    folder.mkdir(parents=True, exist_ok=True)
    source, result = folder / "graph.hlo.pb", folder / "compiled.neff"
    source.write_bytes(graph)
    call = [*shlex.split(command), "compile", "--framework=XLA", str(source), "--output", str(result), *words]
    done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError("\n".join([f"neuronx-cc failed with {done.returncode}", *said]))
    return result.read_bytes()


def _log(words: Sequence[str], text: str) -> None:
    """Append to the file that the flags name."""
    for word in words:
        if word.startswith(_LOG_FLAG):
            with open(word.removeprefix(_LOG_FLAG), "a", encoding="utf-8") as file:
                file.write(f"INFO (emulated): {text}\n")
