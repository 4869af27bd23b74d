"""A component is one folder and a mode one class: nobody else spells their names."""

import re

import pytest

from optimum_pixart_neuron.components.registry import COMPONENTS, PARTS
from optimum_pixart_neuron.parallel.modes import MODES

from .source import Module, product

FOLDERS = {name: type(component).__module__.split(".")[2] for name, component in COMPONENTS.items()}
FOLDERS |= {name: name for name in PARTS if name not in FOLDERS}
"""Name of a component, or of a part of a checkpoint -> folder in `components/`."""

# The names of modes are common words.
OTHER_MEANINGS = {("serving", "data"): "a key of the answers of OpenAI's API"}
ROOMS = sorted({module.room for module in product()})


def spelled(module: Module, name: str) -> list[str]:
    """Where a module spells a component's name: as a string, in a path or a flag, or as a name of the code."""
    alone = re.compile(rf"(^|/|--){name}(/|$)")
    inside = re.compile(rf"(?<![a-z_]){name}(?![a-z_])") if "_" in name else alone  # the others are common words
    texts = [(line, text) for line, text in module.strings() if alone.search(text) or inside.search(text)]
    # The parts that are copied, and the whole VAE, are attributes of diffusers' pipeline that nobody compiled.
    found = texts + [(line, text) for line, text in module.identifiers() if text == name and name in COMPONENTS]
    return [f"{module.path}:{line} {text!r}" for line, text in found]


@pytest.mark.seconds
@pytest.mark.parametrize("room", ROOMS)
def test_a_components_name_is_spelled_in_its_own_folder_only(room):
    found = [
        where
        for module in product()
        for name, folder in FOLDERS.items()
        if module.room == room and module.path.parts[:2] != ("components", folder)
        for where in spelled(module, name)
    ]
    assert not found, (
        "whoever adds a component, or changes one, should find all of it in components/<name>/; ask the registry"
        f" instead of spelling a name: {found}"
    )


@pytest.mark.seconds
@pytest.mark.parametrize("room", ROOMS)
def test_a_modes_name_is_spelled_in_one_module_only(room):
    found = [
        f"{module.path}:{line}"
        for module in product()
        if module.room == room and module.name != "parallel.modes"
        for line, text in module.strings()
        if text in MODES and (room, text) not in OTHER_MEANINGS
    ]
    assert not found, f"a mode is one class in parallel/modes.py; ask it instead of comparing its name: {found}"


def test_every_component_has_a_folder_with_a_spec():
    folders = {module.path.parts[1] for module in product() if module.path.parts[0] == "components"}
    named = {module.path.parts[1] for module in product() if module.path.stem == "spec"}
    assert named == set(FOLDERS.values())
    assert folders - named <= {"__init__.py", "common", "component.py", "export_config.py", "registration.py"} | {
        "registry.py"
    }, "a folder of components/ is one component, or what several share"
