"""A Ray cluster of two nodes on this machine, for tests of commands that join one."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.serving.conftest import INSTANCE, family_of


def node_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a node's processes, and of commands that join it: a token of their own, two cores a node.

    Args:
        more: of the environment.
    """
    return {
        **os.environ,
        **(more or {}),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "NEURON_EMULATOR_INSTANCE": INSTANCE,
        "NEURON_RT_VISIBLE_CORES": "0,1",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def two_nodes(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[tuple[subprocess.Popen, str, dict]]:
    """The process of the cluster, its address, and the environment of commands that join it.

    Args:
        folder: the nodes' current folder, to be made.
        more: of the environment.
    """
    environment = node_environment(more)
    folder.mkdir()
    script = Path(__file__).with_name("two_nodes.py")
    nodes = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        address = nodes.stdout.readline().strip()
        assert address
        yield nodes, address, environment
    finally:
        family = family_of(nodes)
        nodes.stdin.close()
        try:
            nodes.wait(60)
        finally:
            for each in family:
                if each.is_running():
                    each.kill()
