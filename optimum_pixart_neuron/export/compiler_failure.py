"""A compilation that fails: what the compiler said, what it means, and where its log is kept."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CompilationFailed, printable
from ..files import read_end
from ..neuron.troubles import compiler_reason

_LOG_ENDINGS = (".txt", ".log")
_READ_OF_A_LOG = 1 << 20  # bytes from its end


@contextmanager
def compiler_failures(component: str, workdir: Path, keep_log: Callable[[Path], Path]) -> Iterator[None]:
    """Turn what a compilation in the block raises into one line, and keep the compiler's log.

    torch_neuronx raises RuntimeError ("neuronx-cc failed with 70"), libneuronxla CalledProcessError; the reason is
    in the log only (NxD 0.15 `trace/model_builder.py` has `log-neuron-cc.txt` beside each graph).

    Args:
        component: its name.
        workdir: where the compiler writes.
        keep_log: given a log, puts it where it outlives the export, and returns that place.

    Raises:
        CompilationFailed: the compiler ended without a program.
    """
    try:
        yield
    except (RuntimeError, subprocess.SubprocessError) as error:
        logs = _logs(workdir)
        said = "\n".join([*(read_end(log, _READ_OF_A_LOG) for log in logs), _told_by(error)])
        kept = keep_log(logs[-1]) if logs else None
        raise CompilationFailed(component, compiler_reason(said), kept) from error
    except FileNotFoundError as error:
        if Path(str(error.filename)).name != "neuronx-cc":
            raise
        raise CompilationFailed(component, compiler_reason(str(error)), None) from error


def _logs(workdir: Path) -> list[Path]:
    """The compiler's logs that say something, the newest last."""
    found = [path for ending in _LOG_ENDINGS for path in workdir.rglob(f"*{ending}") if path.is_file()]
    return sorted((path for path in found if path.stat().st_size), key=lambda path: path.stat().st_mtime_ns)


def _told_by(error: BaseException) -> str:
    """The message, and what a process wrote that failed."""
    outputs = [getattr(error, name, None) for name in ("stdout", "stderr")]
    texts = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in outputs if text]
    told = "\n".join([*texts, str(error)])
    return "\n".join(printable(line, len(line)) for line in told.splitlines())
