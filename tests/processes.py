"""Processes that tests have started, seen from outside."""

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil


def running(process_ids: Iterable[int]) -> list[int]:
    """Those that have not ended."""
    found = []
    for each in process_ids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(each).status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def descendants(process_id: int) -> list[int]:
    """All processes below one."""
    return [each.pid for each in psutil.Process(process_id).children(recursive=True)]


def parent_of(process_id: int) -> int:
    return psutil.Process(process_id).ppid()


def assert_all_end(process_ids: Iterable[int], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while running(process_ids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(process_ids) == []
