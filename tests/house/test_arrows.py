"""Arrows point one way: high floors use lower ones."""

import pytest

from .source import PACKAGE, product

pytestmark = pytest.mark.seconds

FLOORS = (
    *("commands", "demo", "doctor", "serving", "benchmark", "runtime", "export", "planner", "validation"),
    *("deployment", "program", "artifact", "checkpoint", "lora", "components", "parallel", "neuron", "emulator"),
    *("process", "terminal", "cpu"),
    *("hub", "aten_graph", "options", "files", "hardware", "errors"),
)
"""From the roof down; the last line is the ground floor, modules at the root of the package."""

GROUND = {"hub", "aten_graph", "options", "files", "hardware", "errors"}


def test_nothing_imports_upwards():
    """Also not in a function: that closes a circle of rooms. Commands, on the highest floor, are nobody's."""
    found = [
        f"{module.name} imports {imported}"
        for module in product(with_emulator=True)
        for imported in module.imports(late=True)
        if imported and module.room != "__init__" and FLOORS.index(imported.split(".")[0]) < FLOORS.index(module.room)
    ]
    assert not found, f"a room uses the floors below it, so that each can be understood and tested alone: {found}"


def test_modules_are_not_imported_in_a_circle():
    arrows = {module.name: set(module.imports()) - {module.name} for module in product(with_emulator=True)}
    while arrows:
        free = {name for name, used in arrows.items() if not used & arrows.keys()}
        assert free, f"these modules import each other, so none can be read first: {sorted(arrows)}"
        arrows = {name: used for name, used in arrows.items() if name not in free}


def test_the_emulator_knows_nothing_of_pixart():
    found = [
        f"{module.name} imports {imported}"
        for module in product(with_emulator=True)
        if module.room == "emulator"
        for imported in module.imports(late=True)
        if imported and imported.split(".")[0] not in GROUND | {"emulator", "process", "cpu"}
    ]
    assert not found, f"the emulator stands for the SDK, which knows none of our models: {found}"


def test_few_modules_stand_at_the_root():
    root = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert root <= GROUND and len(root) <= 6, f"what is not for every room belongs into one: {sorted(root)}"


def test_no_two_files_have_one_name():
    repeated = {"__init__", "__main__", "options", "table", "report"}
    in_components = {"spec", "graph", "sharding", "original", "configuration"}
    places: dict[str, list[str]] = {}
    for module in product():
        stem = module.path.stem
        if stem not in repeated and not (module.room == "components" and stem in in_components):
            places.setdefault(stem, []).append(str(module.path))
    twins = {stem: paths for stem, paths in places.items() if len(paths) > 1}
    assert not twins, f"a file's name says what is in it, so two of one name are told apart by nothing: {twins}"


def test_loading_needs_no_exporter():
    """Whatever is imported with the pipeline's module, with the packages that it lies in."""
    arrows = {module.name: set(module.imports()) for module in product(with_emulator=True)}
    reached: set[str] = set()
    following = {"runtime.pipeline"}
    while following:
        reached |= following
        following = {used for name in following for used in arrows[name]}
        following |= {name.rpartition(".")[0] for name in following}
        following -= reached
    found = {name for name in reached if name.split(".")[0] == "export"}
    assert "artifact.checks" in reached
    assert not found, f"who draws pictures needs no compiler; the exporter is imported when asked for: {found}"
