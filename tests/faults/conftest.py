"""The warm process and the undisturbed runs of these tests, and the table of faults at the end of the session."""

import statistics

import pytest

from .plan import KINDS, SEED, SEED_VARIABLE, Fault
from .stage import Stage


@pytest.fixture(scope="session")
def temporary(tmp_path_factory):
    """Where the runs put temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def warm(temporary):
    from .warm import Warm

    process = Warm(temporary)
    yield process
    process.close()


@pytest.fixture(scope="session")
def undisturbed(warm, tmp_path_factory):
    from .undisturbed import Undisturbed

    return Undisturbed(warm, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def stage(fault: Fault, undisturbed, tmp_path) -> Stage:
    return Stage(fault, undisturbed, tmp_path)


def pytest_terminal_summary(terminalreporter) -> None:
    """Count the faults, by kind."""
    seconds: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
    survived = dict.fromkeys(seconds, 0)
    ends: dict[str, dict[str, int]] = {name: {} for name in seconds}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        properties = dict(report.user_properties)
        if report.when == "call" and "fault" in properties:
            kind = properties["fault"]
            seconds[kind].append(report.duration)
            survived[kind] += report.passed
            end = properties.get("end", "FAILED")
            ends[kind][end] = ends[kind].get(end, 0) + 1
    if not any(seconds.values()):
        return
    terminalreporter.section(f"faults, {SEED_VARIABLE}={SEED}")
    terminalreporter.line(f"{'kind':<14} {'injected':>8} {'survived':>8} {'mean s':>7} {'max s':>7}  how they ended")
    for kind, times in seconds.items():
        if times:
            how = ", ".join(f"{count} {end}" for end, count in sorted(ends[kind].items()))
            mean, most = statistics.mean(times), max(times)
            terminalreporter.line(f"{kind:<14} {len(times):>8} {survived[kind]:>8} {mean:>7.2f} {most:>7.2f}  {how}")
    every = [each for times in seconds.values() for each in times]
    mean, most = statistics.mean(every), max(every)
    terminalreporter.line(f"{'all':<14} {len(every):>8} {sum(survived.values()):>8} {mean:>7.2f} {most:>7.2f}")
