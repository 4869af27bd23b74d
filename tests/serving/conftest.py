"""The one export of the service's tests, and processes of the command that leave nothing behind."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

INSTANCE = "trn1.2xlarge"
"""Two cores: what one pipeline of the export takes."""


@pytest.fixture(scope="session")
def export(made_once) -> Path:
    """An export of the smallest checkpoint: batches of 4, programs with guidance and without on 2 ranks; read only."""
    from tests.e2e.conftest import export_to
    from tests.tiny import build_tiny_checkpoint

    def make(folder: Path) -> None:
        small = {"heads": 2, "layers": 1, "text_heads": 2, "text_layers": 1, "caption_dim": 32, "text_ff": 64}
        checkpoint = build_tiny_checkpoint(folder / "checkpoint", **small)
        options = {"guidance": "both", "tensor_parallel_size": 2, "batch_size": 4, "torch_dtype": "float32"}
        export_to(folder / name, checkpoint, **options, vae_parallel="one")

    name = "pixart-tiny"
    return made_once("served", make) / name


def drawn_alone(pipe, prompt: str, seed: int, **call) -> bytes:
    """The file of a picture of one step that nothing else is drawn with."""
    import torch

    from optimum_pixart_neuron.serving.encoding import encode

    generator = torch.Generator().manual_seed(seed)
    return encode(pipe(prompt, **{"num_inference_steps": 1, "generator": generator, **call}).images[0], "png")


def file_in(answer) -> bytes:
    """The first picture of an answer of the server."""
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Draw in this process as the commands do.

    Sums over two threads end in other bits than sums over one. Ray gives each of its processes one (2.60: it sets
    OMP_NUM_THREADS), and the emulator runs programs of one core in the process that loaded them.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def running(
    command: str,
    *arguments: object,
    cwd: Path,
    environment: Mapping[str, str] = os.environ,
    prepare: Callable[[], None] = lambda: None,
    instance: str = INSTANCE,
) -> Iterator[subprocess.Popen]:
    """A command in a process of its own, as `optimum-cli` runs it; killed with all that it started at the end."""
    script = (
        "import sys; from optimum_pixart_neuron.commands.frame import run_child;"
        " sys.exit(run_child(*sys.argv[1:3], sys.argv[3:]))"
    )
    module = f"optimum_pixart_neuron.commands.{command}"
    # What is killed with its guard cannot clear up. The name is short, as Ray's sockets below it have to be.
    scratch = tempfile.mkdtemp(prefix="t")
    environment = {
        **environment,
        "NEURON_EMULATOR_INSTANCE": instance,
        "OMP_NUM_THREADS": "1",
        "TMPDIR": scratch,
    }

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prepare()

    # Python itself keeps the current folder off the path, as a console script does.
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", script, module, command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin,
    )
    try:
        yield process
    finally:
        family = family_of(process)
        for each in family:
            with suppress(psutil.Error):
                each.kill()
        process.kill()
        process.communicate(timeout=30)
        shutil.rmtree(scratch, ignore_errors=True)


def family_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The process and all that it started, directly or not."""
    try:
        own = psutil.Process(process.pid)
        return [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def named(process: subprocess.Popen, part: str) -> list[psutil.Process]:
    """Those whose command line has this part."""
    found = []
    for each in family_of(process):
        with suppress(psutil.Error):
            if part in " ".join(each.cmdline()):
                found.append(each)
    return found


def alive(family: list[psutil.Process]) -> list[str]:
    """The command lines of those that still run."""
    left = []
    for each in family:
        with suppress(psutil.Error):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(each.cmdline()))
    return left


def wait_until(true: Callable[[], object], seconds: float = 10, what: str = "it") -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not in {seconds} s"
        time.sleep(0.01)
