"""The Ray that a command runs on: one of its own on this machine, or a cluster that is there.

Ray puts the driver's current folder on the import path of every worker (2.60, `ray/_private/worker.py`, `connect`), so
the driver first goes to an empty folder of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ..errors import InvalidExportOption, PixArtNeuronError, one_line
from ..hardware import runtime_cores
from ..neuron.machine import Machine
from ..neuron.sdk import ensure_sdk
from ..process.start import ModuleProcess
from . import left_behind
from .drawer import VISIBLE_CORES

CORES = "neuron_cores"
"""Ray's name of the resource; it sets `NEURON_RT_VISIBLE_CORES` for each actor that asks for some."""

# Read by Ray when it is imported or its processes start (2.60: `ray/_private/ray_constants.py`, `authentication`). The
# name of the first is that of its first use; what it does is to take 127.0.0.1 as the node's address, on which all of
# Ray's servers then listen, and nowhere else. By the last the processes that draw have the priority of the command;
# Ray's own choice is niceness 15, where anything else on the machine goes before a picture that somebody waits for.
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
}
# What Ray prints to the driver's standard output is skipped line by line; a lost process is no news for a user whose
# pictures another one draws. By the last Ray's C++ part leaves the handlers of signals alone; its own for SIGTERM ends
# the process by SIGABRT.
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}
_OBJECT_STORE_BYTES = 256 << 20
"""Pictures on their way: hundreds of 1024 pixels."""
_STARTS = 3
"""Ray gives each of its own processes 30 s to start, which is little on a machine that is busy."""
_FEWEST_CPUS = 4
"""What Ray Serve and Ray Data want for their own actors, which wait most of the time."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[Path]:
    """Within it, this process is a driver of Ray; its current folder is an empty one, which is yielded.

    Args:
        address: of a cluster, as `ray.init` takes it; None starts a Ray on this machine, with its visible cores, that
            listens on the loopback interface, asks every client for a random token, and ends with this process.

    Raises:
        InvalidExportOption: `serve` is not installed, or the cluster cannot be joined.
        DeviceError: this machine has no NeuronCore.
    """
    os.environ.update(_ALWAYS)
    if address is None:
        os.environ.update(_ALONE, RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ.pop("RAY_ADDRESS", None)
        _name_each_visible_core()
    before = Path.cwd()
    private = Path(tempfile.mkdtemp(prefix="pixart-")).resolve()
    empty = private / "empty"
    empty.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(private / "page")
    guard = ModuleProcess(left_behind.__name__, [str(private), str(os.getpid())], watched=False)
    os.chdir(empty)
    try:
        ray = _import_ray()
        try:
            # SIGTERM keeps its handler, where `ray.init` would put its own first (2.60, `_private/worker.py`).
            with patch.object(ray._private.utils, "set_sigterm_handler"):
                _start(ray, address, private)
            yield empty
        finally:
            ray.shutdown()
    finally:
        os.chdir(before)
        left_behind.end_all(private)
        guard.kill()
        guard.wait()


def _import_ray():
    try:
        import ray
    except ImportError:
        raise InvalidExportOption("Ray is not installed: pip install 'optimum-pixart-neuron[serve]'") from None
    return ray


def _start(ray, address: str | None, private: Path) -> None:
    if address is None:
        failed, starts, how = "Ray does not start", _STARTS, _local(private)
    else:
        failed, starts, how = f"--address {address}: the cluster cannot be joined", 1, {"address": address}
    for left in reversed(range(starts)):
        try:
            ray.init(**how, logging_level=logging.ERROR, log_to_driver=False)
            return
        except Exception as error:  # of many kinds: ConnectionError, RuntimeError, ValueError, its own
            if not left:
                raise PixArtNeuronError(f"{failed}: {one_line(error)}") from error
            _log.warning("Ray did not start (%s); trying again", one_line(error))
            ray.shutdown()


def _local(private: Path) -> dict[str, Any]:
    """Arguments of `ray.init`."""
    return {
        "address": "local",
        "num_cpus": max(_FEWEST_CPUS, os.cpu_count() or 1),
        "resources": {CORES: len(os.environ[VISIBLE_CORES].split(","))},
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_temp_dir": str(private / "ray"),
    }


def _name_each_visible_core() -> None:
    """Ray takes the cores it may give away from this list, one name between commas each."""
    machine = Machine.of(ensure_sdk())
    visible = runtime_cores(machine.instance, os.environ).visible
    os.environ[VISIBLE_CORES] = ",".join(map(str, visible))


def cores_of_nodes() -> list[int]:
    """Logical cores of each node of the session, whatever runs on them now."""
    import ray

    return [int(node["Resources"].get(CORES, 0)) for node in ray.nodes() if node["Alive"]]


def room_for(cores: int) -> int:
    """How many pipelines of `cores` cores the nodes hold."""
    return sum(node // cores for node in cores_of_nodes())
