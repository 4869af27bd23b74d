"""Arrows point one way: high floors use lower ones."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .source import PACKAGE, product

FLOORS = (
    *("commands", "demo", "doctor", "serving", "benchmark", "runtime", "export", "planner", "validation"),
    *("deployment", "program", "artifact", "checkpoint", "lora", "components", "parallel", "neuron", "emulator"),
    *("process", "terminal", "cpu"),
    *("hub", "aten_graph", "options", "files", "hardware", "errors"),
)
"""From the roof down; the last line is the ground floor, modules at the root of the package."""

GROUND = {"hub", "aten_graph", "options", "files", "hardware", "errors"}


@pytest.mark.seconds
def test_nothing_imports_upwards():
    found = [
        f"{module.name} imports {imported}"
        for module in product(with_emulator=True)
        for imported in module.imports()
        if module.room != "__init__" and imported and FLOORS.index(imported.split(".")[0]) < FLOORS.index(module.room)
    ]
    assert not found, f"a room uses the floors below it, so that each can be understood and tested alone: {found}"


def test_rooms_are_not_imported_in_a_circle():
    """Also by functions: a circle that is closed late is one."""
    up = {
        (module.name, imported)
        for module in product(with_emulator=True)
        for imported in module.imports(late=True)
        if imported and module.room != "__init__" and FLOORS.index(imported.split(".")[0]) < FLOORS.index(module.room)
    }
    assert not up, f"what a function imports from a higher floor makes a circle of rooms: {up}"


@pytest.mark.seconds
def test_modules_are_not_imported_in_a_circle():
    arrows = {module.name: set(module.imports()) - {module.name} for module in product(with_emulator=True)}
    while arrows:
        free = {name for name, used in arrows.items() if not used & arrows.keys()}
        assert free, f"these modules import each other, so none can be read first: {sorted(arrows)}"
        arrows = {name: used for name, used in arrows.items() if name not in free}


def test_nothing_imports_the_commands():
    found = [
        f"{module.name} imports {imported}"
        for module in product(with_emulator=True)
        if module.room != "commands"
        for imported in module.imports(late=True)
        if imported.split(".")[0] == "commands"
    ]
    assert not found, f"commands print and end processes; what they call must be callable without them: {found}"


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
    places = {(module.path.stem, module.room) for module in product() if module.path.stem not in repeated}
    rooms = Counter(stem for stem, room in places if not (room == "components" and stem in in_components))
    twins = {
        stem: [str(module.path) for module in product() if module.path.stem == stem]
        for stem, count in rooms.items()
        if count > 1
    }
    inside = Counter(module.path.stem for module in product() if module.room == "components")
    twins |= {
        stem: [str(module.path) for module in product() if module.room == "components" and module.path.stem == stem]
        for stem, count in inside.items()
        if count > 1 and stem not in repeated | in_components
    }
    assert not twins, f"a file's name says what is in it, so two of one name are told apart by nothing: {twins}"


@pytest.mark.seconds
def test_loading_needs_no_exporter():
    code = (
        "import sys; from optimum_pixart_neuron import NeuronPixArtSigmaPipeline;"
        "print([name for name in sys.modules if name.startswith('optimum_pixart_neuron.export')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "who draws pictures needs no compiler; the exporter is imported when asked for"
