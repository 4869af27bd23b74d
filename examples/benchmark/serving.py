"""A variant's process: makes its step, then runs it once for each line on standard input and answers in JSON.

Needs only torch and safetensors: the peer's environment has nothing of this project.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def serve(
    load: Callable[[], tuple[Callable, dict]], *, pids: Callable[[], list[int]], before: Callable = lambda: None
):
    """Answer on standard output until standard input closes.

    `run` runs the step once and answers its seconds; `save PATH` also writes the prediction; `memory` answers the
    peak resident bytes of each process since loading.

    Args:
        load: makes the step, and what to tell of it.
        pids: of the processes that compute.
        before: called before each run, outside its time.
    """
    from safetensors.torch import save_file

    # Libraries greet on standard output, which is the channel of the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    step, facts = load()
    for pid in pids():
        _forget_peak(pid)
    answer(facts)
    for line in sys.stdin:
        word, _, path = line.strip().partition(" ")
        if word == "memory":
            answer({"bytes": [_peak_bytes(pid) for pid in pids()]})
            continue
        before()
        begin = time.perf_counter()
        prediction = step()
        seconds = time.perf_counter() - begin
        if word == "save":
            save_file({"prediction": prediction.float().contiguous()}, path)
        answer({"seconds": seconds})


def _forget_peak(pid: int) -> None:
    """Start the peak anew, so that loading does not count (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
