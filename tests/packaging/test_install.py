"""A wheel and an editable install both put the hook where optimum-cli looks. Offline, in environments of their own."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HOOK = "optimum/commands/register/register_pixart_neuron.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (PROJECT / name).exists():
            shutil.copy(PROJECT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "optimum_pixart_neuron", copy / "optimum_pixart_neuron", ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(dist), str(project))
    (built,) = dist.glob("*.whl")
    return built


def _pip(command: str, *arguments: str, python: Path | None = None) -> None:
    target = [] if python is None else ["--python", str(python)]
    quiet = ["--disable-pip-version-check", "--no-index", "--no-deps", "--quiet"]
    # The options of `pip` itself come before the command.
    run = subprocess.run(
        [sys.executable, "-m", "pip", *target, command, *quiet, *arguments], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def _environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one, but not this project's own installation.

    A path in a .pth file makes its packages importable without running the .pth files of that folder, and an editable
    install consists of one of those.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site_packages = sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)})
    Path(site_packages, "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _help(python: Path, folder: Path) -> str:
    """What `optimum-cli export neuron --help` prints there, and where the package was found."""
    code = (
        "import importlib.util, sys\n"
        "print(list(importlib.util.find_spec('optimum_pixart_neuron').submodule_search_locations))\n"
        "from optimum.commands.optimum_cli import main\n"
        "main()\n"
    )
    argv = [str(python), "-c", code, "export", "neuron", "--help"]
    run = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def _sources(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / "optimum_pixart_neuron").rglob("*.py")}


@pytest.mark.seconds
def test_the_wheel_holds_every_module_and_the_hook_and_nothing_of_the_host(project, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    python_files = {name for name in names if name.endswith(".py")}
    assert python_files == _sources(project) | {HOOK}
    assert "optimum_pixart_neuron/py.typed" in names
    assert "optimum_pixart_neuron/demo/checkpoint/transformer/diffusion_pytorch_model.safetensors" in names


@pytest.mark.seconds
def test_a_wheel_install_gives_optimum_cli_the_command(wheel, tmp_path):
    python = _environment(tmp_path / "env")
    _pip("install", str(wheel), python=python)
    shown = _help(python, tmp_path)
    assert str(tmp_path / "env") in shown.splitlines()[0]
    assert "--parallel_mode" in shown


@pytest.mark.soak
def test_an_editable_install_gives_optimum_cli_the_command(project, tmp_path):
    python = _environment(tmp_path / "env")
    _pip("install", "--no-build-isolation", "--editable", str(project), python=python)
    shown = _help(python, tmp_path)
    assert str(project / "optimum_pixart_neuron") in shown.splitlines()[0]
    assert "--parallel_mode" in shown


@pytest.mark.seconds
def test_the_source_distribution_has_tests_examples_and_manual(tmp_path):
    code = f"from setuptools import build_meta\nprint(build_meta.build_sdist({str(tmp_path)!r}))\n"
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository to build from")
    copy = tmp_path / "copy"
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name)
    built = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {"setup.py", "Makefile", "tests/conftest.py", "examples/first_light.py", "docs/index.md", "mkdocs.yml"}
    assert wanted <= names
    assert "optimum_pixart_neuron/demo/checkpoint/tokenizer/spiece.model" in names
