"""Ways to the Hub and back that break: a process that is killed, connections that are cut, a Hub that refuses."""

import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE

from ..hub.fake_hub import FakeHub, Request
from ..hub.fake_hub import Fault as HubFault
from . import actions
from .stage import Stage
from .undisturbed import EDITED_CARD, PICTURE, content, fill_with_former, fill_with_good
from .warm import Outcome

LASTING = 10_000
_STALL_S = 0.5
_LONG_STALL_S = 1.5
_PATIENCE_S = 1.0
"""Of a client that is to meet a long stall."""
_PASSING = {"flip": 1}
"""How often a pull bears it, where that is not twice: a file that comes damaged again is the repository's fault."""
_REFUSALS = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Way:
    """A push or a pull.

    Attributes:
        requests: that it makes when nothing disturbs it.
        begin: function and arguments of its runs.
        check_kept: that nothing half-made can be had, whatever became of it; and that what was there before still is.
        check_done: that it is complete.
        stale: whether it came to what was in the cache, as huggingface_hub does for a Hub that it cannot ask.
    """

    hub: FakeHub
    requests: list[Request]
    begin: tuple
    check_kept: Callable[[], None]
    check_done: Callable[[Outcome], None]
    stale: Callable[[Outcome], bool] = lambda outcome: False


Direction = Callable[[Stage], AbstractContextManager[Way]]


@contextmanager
def upload(stage: Stage) -> Iterator[Way]:
    """A push of the good export over the former one."""
    undisturbed = stage.undisturbed
    folder = stage.bring(undisturbed.export)
    with FakeHub() as hub:
        fill_with_former(hub, undisturbed.former)
        repository = hub.repositories[actions.REPO]
        before = dict(repository.commits)
        kept = {**content(undisturbed.former), "cat.png": PICTURE}
        pushed = {**content(undisturbed.export), "README.md": EDITED_CARD, "cat.png": PICTURE}
        pushed[MANIFEST_FILE] = undisturbed.manifest.for_others().to_json()

        def check_kept() -> None:
            assert hub.files(actions.REPO) in (kept, pushed), "the branch has the former export or the new one"
            assert {oid: repository.commits.get(oid) for oid in before} == before

        def check_done(outcome: Outcome) -> None:
            assert hub.files(actions.REPO) == pushed
            assert len(repository.commits) == len(before) + 1, "one commit, however many tries"
            assert outcome.result == f"{hub.url}/{actions.REPO}/commit/{repository.refs['main']}"
            assert content(folder) == content(undisturbed.export)
            stage.check_nothing_hidden()

        client = actions.HubClient(hub.url, stage.folder / "home")
        begin = (actions.push, client, folder)
        with stage.keeping(folder):
            yield Way(hub, undisturbed.pushing, begin, check_kept, check_done)


@contextmanager
def download(stage: Stage) -> Iterator[Way]:
    """A pull of the good export into a cache that has the former one."""
    undisturbed = stage.undisturbed
    home = Path(shutil.copytree(undisturbed.cache, stage.folder / "home", symlinks=True))
    (former,) = (home / "hub").glob("models--*/snapshots/*")
    good = content(undisturbed.export)
    with FakeHub() as hub:
        fill_with_good(hub, undisturbed.former, undisturbed.export)
        client = actions.HubClient(hub.url, home)

        def check_kept() -> None:
            offline = stage.run(actions.pull, client, {"local_files_only": True})
            if offline.returned:
                assert content(offline.result) in (good, content(former)), (
                    "a pull without network trusts half a folder"
                )
            else:
                assert offline.error == "HubError" and "\n" not in offline.message, offline
            found = stage.succeed(actions.pull, client, {"local_files_only": True, "revision": former.name})
            assert found.result == former

        def check_done(outcome: Outcome) -> None:
            assert content(outcome.result) == good
            assert stage.succeed(actions.verdicts, outcome.result).result == {"sizes": None, "full": None}
            assert not list(home.rglob("*.incomplete")), "parts of downloads are left"

        with stage.keeping(former):
            begin = (actions.pull, client, {})
            yield Way(hub, undisturbed.pulling, begin, check_kept, check_done, lambda end: end.result == former)


def kill(direction: Direction, stage: Stage) -> str:
    """Kill a push or a pull while the Hub receives or sends a random byte of a random request."""
    with direction(stage) as way:
        numbers = stage.fault.random
        request = numbers.choice([request for request in _ordered(way.requests) if _length(request)])
        fault = HubFault("stall", _pattern(request), request.method, at=numbers.randrange(_length(request)))
        fault.seconds = _STALL_S
        way.hub.faults.append(fault)

        def strike(run: psutil.Process) -> None:
            if not fault.times:
                time.sleep(numbers.uniform(0, _STALL_S / 4))
                run.kill()

        outcome = stage.run_while(strike, *way.begin)
        assert outcome.status == -signal.SIGKILL, f"{stage.fault}: {fault} did not strike: {outcome}"
        time.sleep(_STALL_S)  # the Hub reads what it was sent before the kill
        way.check_kept()
        way.check_done(stage.succeed(*way.begin))
        return f"killed in {request.method}"


def cut(direction: Direction, kinds: tuple[str, ...], stage: Stage) -> str:
    """Break connections: within a body, after the answer was made, by silence; or change a byte of what is sent."""
    return _break(direction, stage, kinds[stage.fault.number % len(kinds)])


def busy_hub(stage: Stage) -> str:
    """Refuse a random request of a push or a pull with a passing status, a few times or always."""
    return _break((upload, download)[stage.fault.number % 2], stage, "status")


def _break(direction: Direction, stage: Stage, kind: str) -> str:
    with direction(stage) as way:
        numbers = stage.fault.random
        fault = _choose(numbers, way.requests, kind)
        fault.times = times = numbers.choice((1, _PASSING.get(kind, 2), LASTING))
        way.hub.faults.append(fault)
        function, client, *arguments = way.begin
        if kind == "stall":
            client = replace(client, patience=_PATIENCE_S)
        outcome = stage.run(function, client, *arguments)
        assert fault.times < times, f"{stage.fault}: {fault} did not strike"
        if outcome.returned and not way.stale(outcome):
            end = "withstood"
            way.check_done(outcome)
        else:
            end = "answered by the cache" if outcome.returned else "refused"
            if not outcome.returned:
                assert times == LASTING, f"{stage.fault}: {fault} is over, and the run fails: {outcome.message}"
                assert outcome.error == "HubError" and "\n" not in outcome.message, outcome
                assert actions.REPO in outcome.message
            way.hub.faults.clear()
            way.check_kept()
            way.check_done(stage.succeed(*way.begin))
    return f"{kind} {end}"


def _choose(numbers: random.Random, requests: list[Request], kind: str) -> HubFault:
    if kind == "flip":
        requests = [request for request in requests if request.method == "GET" and "/resolve/" in request.path]
    if kind in ("cut", "stall", "flip"):
        requests = [request for request in requests if _length(request)]
    request = numbers.choice(_ordered(requests))
    at = numbers.randrange(_length(request)) if _length(request) else 0
    fault = HubFault(kind, _pattern(request), request.method, at=at, status=numbers.choice(_REFUSALS))
    fault.seconds = _LONG_STALL_S
    return fault


def _ordered(requests: list[Request]) -> list[Request]:
    """Several threads make them: their order in time is no one's choice."""
    return sorted(requests, key=lambda request: (request.method, request.path))


def _length(request: Request) -> int:
    """Bytes of the body in which a fault strikes: of the request where something is sent, else of the answer."""
    if request.method == "HEAD":
        return 0
    return request.received if request.method in ("PUT", "POST") else request.sent


def _pattern(request: Request) -> str:
    return re.sub(r"[\[*?]", lambda found: f"[{found[0]}]", request.path)
