"""The peer's environment of its own: cache-dit wants a newer diffusers and transformers than optimum-neuron allows."""

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("cache-dit>=1.5,<2", "safetensors")


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "optimum-pixart-neuron" / "benchmark-peer"


def peer_python(folder: Path, torch_requirement: str) -> Path:
    """The interpreter of the peer's environment, made in `folder` unless it is complete there.

    Exits with the reason when pip cannot install it.

    Args:
        torch_requirement: installed first, so that pip takes this build and not the newest one.
    """
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join([sys.version, torch_requirement, *REQUIREMENTS])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    stamp.unlink(missing_ok=True)
    print(f"making the peer's environment in {folder}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], "the environment cannot be made")
    for requirements in ([torch_requirement], [torch_requirement, *REQUIREMENTS]):
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        _run(command, f"pip cannot install {' '.join(requirements)}; is it on your index? Leave out --peer without it")
    _run([str(python), "-c", "import cache_dit"], "cache-dit was installed, but cannot be imported")
    stamp.write_text(wanted)
    return python


def _run(command: list[str], complaint: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line and not line.startswith("WARNING")]
        sys.exit("\n".join([*lines[-5:], f"--peer: {complaint}"]))
