"""One rank: receives programs and weights, then runs a program per message until its socket closes."""

import ctypes
import os
import signal
import sys
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from . import collectives
from .program import Program
from .transport import from_message, map_weights, to_message

_PR_SET_PDEATHSIG = 1

# Dead peers are noticed by the owner, so that gloo's own timeout only has to exceed the slowest program.
_GLOO_TIMEOUT = timedelta(days=1)


def main(rank: int, world_size: int, descriptor: int, launcher_id: int, start: dict[str, Any]) -> NoReturn:
    """Serve as `rank` on the socket `descriptor`. Never returns: a fork must not run its parent's exit handlers."""
    status = 1
    try:
        _die_with(launcher_id)
        _serve(rank, world_size, Connection(descriptor), start)
        status = 0
    except (EOFError, ConnectionError):
        status = 0  # the owner closed the socket
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _die_with(launcher_id: int) -> None:
    """Have the kernel kill this process when the launcher dies, on Linux; elsewhere the socket alone tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher_id:
        os._exit(1)


def _serve(rank: int, world_size: int, connection: Connection, start: dict[str, Any]) -> None:
    torch.set_num_threads(start["threads"])
    torch.set_grad_enabled(False)
    try:
        # ranks share this host: without it gloo resolves the host's name, which may fail or leave the machine
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        store = dist.FileStore(start["store"], world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=_GLOO_TIMEOUT)
        loading = connection.recv()
        programs = [Program.from_bytes(serialised) for serialised in loading["programs"]]
        weights = map_weights(start["weights"], loading["weights"])
        for file in start["weights"]:
            os.close(file)
        meshes = list(dict.fromkeys(mesh for program in programs for mesh in program.meshes))
        groups = collectives.create_groups(meshes, rank)
        collectives.enter_worker(collectives.WorkerRank(rank, world_size, groups))
        arguments = [[weights[name] for name in program.weight_names] for program in programs]
        dist.barrier()
    except Exception as error:
        connection.send(("failed", f"while starting: {_one_line(error)}"))
        raise EOFError from error
    connection.send(("done", os.getpid()))

    while True:
        index, inputs = connection.recv()
        try:
            outputs = programs[index].run(arguments[index], [from_message(message) for message in inputs])
        except Exception as error:
            connection.send(("failed", _one_line(error)))
            continue
        connection.send(("done", [to_message(output) for output in outputs] if rank == 0 else None))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
