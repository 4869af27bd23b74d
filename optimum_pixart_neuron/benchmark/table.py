"""The report as a person reads it."""

from rich.console import Console
from rich.table import Table

from ..components.component import Per
from ..components.registry import COMPONENTS
from ..deployment.sides import pixels
from ..hardware import GIB
from ..terminal.table import duration, fact, paragraph, table
from .observe import ONLY
from .report import FEWEST_FOR_P99, BenchmarkReport, Percentiles, RequestOptions


def print_report(report: BenchmarkReport, console: Console) -> None:
    """Print everything but the first line, which was said before the measurement."""
    _print_facts(report, console)
    console.print(_table(report))
    for note in _notes(report):
        paragraph(console, note)


def _print_facts(report: BenchmarkReport, console: Console) -> None:
    compiled, options, memory, summary = report.compiled, report.options, report.memory, report.summary
    mode = f"{compiled.parallel_mode}, " if compiled.parallel_mode else ""
    ranks = "" if memory.largest_rank is None else f", emulated rank {_gib(memory.largest_rank)}"
    facts = {
        "folder": compiled.folder,
        "class": compiled.pipeline_class,
        "compiled": (
            f"{pixels((compiled.height, compiled.width))} for {compiled.instance}: {mode}{compiled.ranks} rank(s),"
            f" batch {compiled.batch_size} x {compiled.num_images_per_prompt}"
        ),
        "request": (
            f"{options.batch_size} prompt(s) x {options.num_images_per_prompt} image(s),"
            f" {options.num_inference_steps} steps, guidance {options.guidance_scale:g}{_interval(options)}"
        ),
        "measured": f"{len(report.samples)} request(s) after {options.warmup} of warm-up",
        "load": f"{report.load:.2f} s",
        "host memory": f"{_gib(memory.main)} at most{ranks}",
        "throughput": f"{summary.images_per_second:.4g} images/s",
        "host": f"{summary.host_share:.2%} of the time is outside compiled graphs",
    }
    named = {name: runs for name, runs in summary.programs.items() if len(runs) > 1 or ONLY not in runs}
    if named:
        facts["programs"] = "; ".join(
            f"{name} {', '.join(f'{program} x {runs:g}' for program, runs in programs.items())}"
            for name, programs in named.items()
        )
    if report.prompts:
        facts["prompts"] = f"{report.prompts.hits} kept, {report.prompts.misses} encoded"
    if report.cost:
        facts["cost"] = (
            f"${report.cost.per_1000_images:.3g} for 1000 images, expected"
            f" ${report.cost.expected_per_1000_images:.3g}, on an instance full of such pipelines"
            f" (${report.cost.price_per_hour:g} an hour: {report.cost.price_source})"
        )
    for name, value in facts.items():
        console.print(fact(name, value), highlight=False, markup=False, soft_wrap=True)


def _interval(options: RequestOptions) -> str:
    return " from {:g} to {:g} of the schedule".format(*options.guidance_interval) if options.guidance_interval else ""


def _table(report: BenchmarkReport) -> Table:
    summary, plan = report.summary, report.plan
    titles = ("", "samples", "p50", "p90", "p99", *(("bound", "expected") if plan else ()))
    rows: list[list[str]] = []

    def add(name: str, measured: Percentiles, *planned: float) -> None:
        figures = [duration(seconds) for seconds in (measured.p50, measured.p90, measured.p99, *planned)]
        missing = [""] * (len(titles) - 2 - len(figures))
        rows.append([name, str(measured.samples), *figures, *missing])

    add("end to end", summary.end_to_end, *((plan.lower_bound, plan.expected) if plan else ()))
    for name in summary.components:
        planned = plan.components.get(name) if plan else None
        add(name, summary.components[name], *((planned.lower_bound, planned.expected) if planned else ()))
        if name in COMPONENTS and COMPONENTS[name].per is Per.STEP:
            add("  one call", summary.calls[name])
    add("host outside graphs", summary.host_outside_graphs)
    for name, measured in summary.host.items():
        add(f"  {name}", measured)
    return table(rows, titles, words=("",))


def _notes(report: BenchmarkReport) -> list[str]:
    notes, plan, options = [], report.plan, report.options
    if len(report.samples) < FEWEST_FOR_P99:
        notes.append(
            f"p99 of {len(report.samples)} request(s) is next to the slowest of them; for more ask for"
            f" --images {FEWEST_FOR_P99 * options.images}"
        )
    if plan:
        notes.append(
            f"plan: seconds on {plan.instance} for {plan.images} image(s) at once, bound at the hardware's peaks,"
            f" expected at {plan.efficiency:.1%} of them; a prediction"
        )
        if report.cost is None:
            notes.append(f"no cost: the price of {plan.instance} is not known; give it with --price_per_hour")
    else:
        notes.append(f"no plan: {report.plan_missing}")
    return notes


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
