"""What the package imports, it declares; what a package index shows of it works there."""

import re
import runpy
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import optimum_pixart_neuron
from tests.house.source import product

ROOT = Path(__file__).parents[2]
SETTINGS = ConfigParser()
SETTINGS.read(ROOT / "setup.cfg")

OF_THE_SDK = {"libneuronxla", "neuronx_distributed", "neuronxcc", "torch_neuronx", "torch_xla"}
DISTRIBUTIONS = {"PIL": "pillow"}
"""Names of imports that are not those of their distributions."""


def imported() -> set[str]:
    """Distributions of what the product imports, at its head or in a function; the emulated SDK is imported here."""
    modules = [module for module in product(with_emulator=True) if module.path.parts[:2] != ("emulator", "sdk")]
    roots = {root for module in modules for root in module.outside} - {*sys.stdlib_module_names, *OF_THE_SDK}
    return {DISTRIBUTIONS.get(name, name) for name in roots}


def declared() -> dict[str, str]:
    """Distributions of setup.cfg, in whichever extra -> the range."""
    extras = SETTINGS["options.extras_require"]
    lines = "\n".join([SETTINGS["options"]["install_requires"], *extras.values()]).splitlines()
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?(.*)", line) for line in lines if line and not line.startswith("#"))
    return {each[1]: each[2] for each in found}


@pytest.mark.seconds
def test_every_imported_package_is_declared():
    assert imported() <= declared().keys()


def test_what_an_image_of_the_sdk_has_is_not_upgraded():
    assert "filelock" not in declared()


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", optimum_pixart_neuron.__version__)
    assert SETTINGS["metadata"]["version"] == "attr: optimum_pixart_neuron.__version__"


def test_pictures_and_links_of_the_front_page_work_outside_the_repository():
    page = runpy.run_path(str(ROOT / "setup.py"))["front_page"]()
    assert "](examples/" not in page and "](docs/" not in page
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    assert pictures and all(each.startswith(f"{SETTINGS['metadata']['url']}/raw/main/") for each in pictures)
    assert all((ROOT / each.partition("/raw/main/")[2].partition("?")[0]).is_file() for each in pictures)
    assert all(each.endswith((".png", ".svg?sanitize=true")) for each in pictures)
