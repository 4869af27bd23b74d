"""The warm process and the undisturbed runs of these tests, and the table of faults at the end of the session."""

import statistics
from collections import Counter

import pytest

from .fault import SEED, SEED_VARIABLE, Fault
from .plan import KINDS
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
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    noted = [(dict(report.user_properties), report) for report in reports if report.when == "call"]
    by_kind = {kind.name: [each for each in noted if each[0].get("fault") == kind.name] for kind in KINDS}
    by_kind["all"] = [each for injected in by_kind.values() for each in injected]
    if not by_kind["all"]:
        return
    terminalreporter.section(f"faults, {SEED_VARIABLE}={SEED}")
    terminalreporter.line(f"{'kind':<14} {'injected':>8} {'survived':>8} {'mean s':>7} {'max s':>7}  how they ended")
    for kind, injected in by_kind.items():
        if injected:
            seconds = [report.duration for _, report in injected]
            survived = sum(report.passed for _, report in injected)
            ends = Counter(properties.get("end", "FAILED") for properties, _ in injected if kind != "all")
            figures = f"{len(injected):>8} {survived:>8} {statistics.mean(seconds):>7.2f} {max(seconds):>7.2f}"
            how = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
            terminalreporter.line(f"{kind:<14} {figures}  {how}".rstrip())
