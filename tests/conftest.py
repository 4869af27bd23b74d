"""Fixtures of all tests, and the reason for which hardware tests are skipped."""

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of torch that wait for each other would only take them from another worker.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOMS_OF_ONE_WORKER = ("tests/planner/",)
"""Their files trace the same programs of the released model, each for seconds; a process keeps what it has traced."""


LONGEST = ("hub/test_round_trip.py", "serving/test_generate.py", "faults/test_faults.py", "e2e/test_sizes.py")
"""Files whose fixtures take a minute and more: begun last, they would keep one worker busy alone."""


def pytest_configure(config):
    unignore_signals()
    # No test finds what another one compiled, unless it asks for a cache; and none writes to this machine's own.
    config.compile_cache = tempfile.mkdtemp(prefix="pixart-neuron-tests-cache-")
    os.environ["NEURON_COMPILE_CACHE_URL"] = config.compile_cache
    os.environ["NEURON_CC_FLAGS"] = "--no_cache"


def pytest_unconfigure(config):
    shutil.rmtree(config.compile_cache, ignore_errors=True)


def unignore_signals() -> None:
    """Have children start with the default handlers of signals that this process ignores.

    A shell starts background jobs with SIGINT ignored, and `nohup` with SIGHUP; what is ignored stays so across exec,
    but a handler becomes the default one. This process goes on to do nothing when such a signal comes.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes a file, or a room whose files share what is made in a process."""
    from xdist.scheduler import LoadFileScheduling

    class ByRoomOrFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((room for room in ROOMS_OF_ONE_WORKER if file.startswith(room)), file)

    return ByRoomOrFile(config, log)


def pytest_collection_modifyitems(items):
    """Fast files first, then the longest; skip what needs a NeuronCore where there is none, with the reason."""
    slower = {item.path for item in items if any(map(item.get_closest_marker, ("ranks", "e2e")))}
    longest = [path for name in LONGEST for path in slower if path.match(name)]
    items.sort(key=lambda item: (item.path in slower, item.path not in longest))
    if os.path.exists("/dev/neuron0"):
        return
    skip = pytest.mark.skip(reason="needs a NeuronCore: this machine has no /dev/neuron0")
    for item in items:
        if item.get_closest_marker("neuron"):
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def what_is_there_stays():
    """What was imported until here; the collector of garbage need not look at it time and again. What the files before
    loaded is gone by now.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def logged(caplog) -> pytest.LogCaptureFixture:
    """What the package logs during a test, in `messages`; commands show it on their standard streams."""
    caplog.set_level("INFO", logger="optimum_pixart_neuron")
    return caplog


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Folders that all workers share and only read: `made_once(name, make)`; the first that asks makes it."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made once"
    shared.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def compiled_once(made_once) -> Callable[[], AbstractContextManager]:
    """A context in which an export takes programs that another one has compiled: one compile cache for all workers."""

    @contextmanager
    def context() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("NEURON_CC_FLAGS")
            patch.setenv("NEURON_COMPILE_CACHE_URL", str(made_once("programs", lambda _folder: None)))
            yield

    return context


@pytest.fixture(scope="session")
def tiny_checkpoint(made_once) -> Path:
    """A small PixArt-Sigma checkpoint for 256 x 256 pixels; read only, it is shared by all tests."""
    from tests.tiny import build_tiny_checkpoint

    name = "tiny-pixart-sigma"
    return made_once("checkpoint", lambda folder: build_tiny_checkpoint(folder / name)) / name


@pytest.fixture(scope="session")
def consistency(tiny_checkpoint, made_once) -> Path:
    """The small checkpoint with the scheduler of an LCM; read only."""
    from diffusers import LCMScheduler

    from tests.checkpoints import rewrite

    def make(folder: Path) -> None:
        whole = Path(shutil.copytree(tiny_checkpoint, folder / name))
        LCMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).save_pretrained(whole / "scheduler")
        rewrite(whole / "model_index.json", scheduler=["diffusers", "LCMScheduler"])

    name = "tiny-lcm"
    return made_once("consistency", make) / name


@pytest.fixture
def start():
    """Start a command in a session of its own; what is left of it is killed after the test."""
    started = []

    def start_command(*command, **environment) -> subprocess.Popen:
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def neuronx_cc(tmp_path, monkeypatch):
    """The compiler of a test, which counts its calls and ends as it is told."""
    from tests.compilers import StandInCompiler

    return StandInCompiler(tmp_path / "neuronx cc", monkeypatch)
