"""A component is one folder and a mode one class: nobody else spells their names."""

import re

import pytest

from optimum_pixart_neuron.components.registry import COMPONENTS, PARTS
from optimum_pixart_neuron.parallel.modes import MODES

from .source import product

pytestmark = pytest.mark.seconds

FOLDERS = {name: type(component).__module__.split(".")[2] for name, component in COMPONENTS.items()}
FOLDERS |= {name: name for name in PARTS if name not in FOLDERS}
"""Name of a component, or of a part of a checkpoint -> folder in `components/`."""

# The names of modes are common words.
OTHER_MEANINGS = {("serving", "data"): "a key of the answers of OpenAI's API"}


def pattern(name: str) -> re.Pattern[str]:
    """Of a component's name in a path or a flag, or as a word of its own unless it is a common one."""
    inside = rf"|(?<![a-z_]){name}(?![a-z_])" if "_" in name else ""
    return re.compile(rf"(^|/|--){name}(/|$){inside}")


PATTERNS = {name: pattern(name) for name in FOLDERS}


def test_a_components_name_is_spelled_in_its_own_folder_only():
    found = []
    for module in product():
        for name, spelled in PATTERNS.items():
            if module.path.parts[:2] == ("components", FOLDERS[name]):
                continue
            found += [f"{module.path}:{line} {text!r}" for line, text in module.strings if spelled.search(text)]
            # The parts that are copied, and the whole VAE, are attributes of diffusers' pipeline that nobody compiled.
            names = module.identifiers if name in COMPONENTS else ()
            found += [f"{module.path}:{line} {text}" for line, text in names if text == name]
    assert not found, (
        "whoever adds a component, or changes one, should find all of it in components/<name>/; ask the registry"
        f" instead of spelling a name: {found}"
    )


def test_a_modes_name_is_spelled_in_one_module_only():
    found = [
        f"{module.path}:{line}"
        for module in product()
        if module.name != "parallel.modes"
        for line, text in module.strings
        if text in MODES and (module.room, text) not in OTHER_MEANINGS
    ]
    assert not found, f"a mode is one class in parallel/modes.py; ask it instead of comparing its name: {found}"


def test_every_component_has_a_folder_with_a_spec():
    folders = {module.path.parts[1] for module in product() if module.path.parts[0] == "components"}
    named = {module.path.parts[1] for module in product() if module.path.stem == "spec"}
    assert named == set(FOLDERS.values())
    assert folders - named <= {"__init__.py", "common", "component.py", "export_config.py", "registration.py"} | {
        "registry.py"
    }, "a folder of components/ is one component, or what several share"
