"""One rank: receives programs and weights, then runs a program per message until its socket closes."""

import os
import sys
import threading
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from . import collectives
from .program import Program
from .transport import from_message, map_weights, to_message

# Dead and stopped peers are noticed by the owner, so that gloo's own timeout only has to exceed the slowest program.
_GLOO_TIMEOUT = timedelta(days=1)


def main(rank: int, world_size: int, descriptor: int, lifeline: int, start: dict[str, Any]) -> NoReturn:
    """Serve as `rank` on the socket `descriptor`, until it or `lifeline`, the pipe from the keeper, is closed.

    Never returns: a fork must not run its parent's exit handlers.
    """
    status = 1
    try:
        threading.Thread(target=_end_with_keeper, args=(lifeline,), daemon=True).start()
        _serve(rank, world_size, Connection(descriptor), start)
        status = 0
    except (EOFError, ConnectionError):
        status = 0  # the owner closed the socket
    except BaseException:
        traceback.print_exc()
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os._exit(status)


def _end_with_keeper(lifeline: int) -> NoReturn:
    os.read(lifeline, 1)
    os._exit(1)


def _serve(rank: int, world_size: int, connection: Connection, start: dict[str, Any]) -> None:
    torch.set_num_threads(start["threads"])
    torch.set_grad_enabled(False)
    try:
        # ranks share this host: without it gloo resolves the host's name, which may fail or leave the machine
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        store = dist.FileStore(start["store"], world_size)
        store.set_timeout(timedelta(seconds=start["patience"]))
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
        connection.send(("failed", _failure(error, "while starting: ")))
        raise EOFError from error
    connection.send(("done", os.getpid()))

    while True:
        index, inputs, answers = connection.recv()
        try:
            outputs = programs[index].run(arguments[index], [from_message(message) for message in inputs])
        except Exception as error:
            connection.send(("failed", _failure(error)))
            continue
        connection.send(("done", [to_message(output) for output in outputs] if answers else None))


def _failure(error: Exception, moment: str = "") -> tuple[float, str]:
    """When it happened, by a clock that all ranks share, and what."""
    return time.monotonic(), f"{moment}{type(error).__name__}: {' '.join(str(error).split())}"
