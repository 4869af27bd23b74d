"""What README and the manual have one type: each line is read by the parser that it is for; code compiles.

What runs on the emulator is run, on one export: the pages' Python in order, as a reader would paste it.
"""

import ast
import re
import shlex
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from optimum_pixart_neuron.commands import export_neuron
from optimum_pixart_neuron.commands.host import SUBCOMMANDS
from optimum_pixart_neuron.demo.demo import next_command
from optimum_pixart_neuron.errors import InvalidExportOption

from ..e2e.conftest import exported, fresh_runtime, sdk  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "examples/shapes/README.md", "examples/serve/README.md")
PAGES = [*map(ROOT.joinpath, OUTSIDE), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:optimum-cli|pixart-\w+|make) [^`\[\]…]*)`(?!`)")
OTHERS = ("pip", "ray", "serve", "hf", "git", "pytest")
"""Commands that are not this project's."""


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and content of each fenced block; a shell's have no language, or one of a shell."""
    for page in PAGES:
        for found, content in BLOCK.findall(page.read_text()):
            if found == language:
                yield f"{page.relative_to(ROOT)}: {content.splitlines()[0]}", content


def commands() -> Iterator[tuple[str, str, bool]]:
    """Page and line of each command of this project, in blocks and in sentences; whether it stands in a block."""
    for page in PAGES:
        text, where = page.read_text(), page.relative_to(ROOT)
        for language, content in BLOCK.findall(text):
            for line in content.replace("\\\n", " ").splitlines() if language in ("", "bash", "sh") else ():
                if is_command(line):
                    yield f"{where}: {line.strip()}", line, True
        for line in INLINE.findall(BLOCK.sub("", text)):
            yield f"{where}: {line}", line, False


def is_command(line: str) -> bool:
    words = line.split("#")[0].split()
    return (
        bool(words)
        and ": error:" not in line
        and (words[0] in ("optimum-cli", "make", "python", *OTHERS) or words[0].startswith("pixart-"))
    )


OF_THE_HOST = ("cache",)
PARSERS = {command.name: command.subcommand_class for command in SUBCOMMANDS}
COMMANDS = {where: line for where, line, _ in commands()}
BLOCKS = {where for where, _, whole in commands() if whole}


@pytest.fixture
def ended(monkeypatch):
    """What a parser says when it would end the process; a sentence may leave out what has to be there."""
    said = []
    monkeypatch.setattr("optimum_pixart_neuron.commands.parser.fail", lambda prog, message: said.append(message))
    return said


@pytest.mark.parametrize("where", COMMANDS)
def test_a_command_is_one(where, ended):
    words = shlex.split(COMMANDS[where], comments=True)
    words = ["some/folder" if word == "..." else word for word in words if word != "&"]
    if words[0] == "make":
        targets = re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    elif words[:3] == ["optimum-cli", "export", "neuron"]:
        with suppress(InvalidExportOption if where not in BLOCKS else ()):
            export_neuron.parse(words[3:])
    elif words == ["optimum-cli", "neuron"]:
        pass  # all of them
    elif words[:2] == ["optimum-cli", "neuron"] or words[0] in PARSERS:
        name, *arguments = words[2:] if words[0] == "optimum-cli" else words
        if name in OF_THE_HOST:
            return
        parser = ArgumentParser()
        PARSERS[name].parse_args(parser)
        parser.parse_args(arguments)
    elif words[0] == "python":
        scripts = [word for word in words[1:] if "/" in word and word.endswith(".py")]
        assert all((ROOT / script).is_file() for script in scripts)
    else:
        assert words[0] in OTHERS
    left_out = "the following arguments are required"
    assert [each for each in ended if where in BLOCKS or not each.startswith(left_out)] == []


@pytest.mark.parametrize(("where", "script"), [each for name in ("", "bash", "sh") for each in blocks(name)])
def test_a_shell_reads_the_block(where, script):
    if any(map(is_command, script.splitlines())):
        read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert read.returncode == 0, read.stderr


PYTHON = dict(blocks("python"))


@pytest.mark.parametrize("where", PYTHON)
def test_python_compiles_and_what_it_imports_of_ours_is_there(where):
    import optimum_pixart_neuron

    for node in ast.walk(ast.parse(PYTHON[where])):
        if isinstance(node, ast.ImportFrom) and node.module == "optimum_pixart_neuron":
            assert {name.name for name in node.names} <= set(dir(optimum_pixart_neuron))


def test_the_demo_ends_with_a_line_that_can_be_pasted():
    folder = Path('some where/it\'s "here"/pixart-neuron')
    python, flag, code = shlex.split(next_command(folder))
    assert (python, flag) == ("python", "-c")
    assert str(folder) in [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]


RUN = ("README.md", "docs/index.md", "docs/prompt-weighting.md")
"""Pages whose Python needs an export in `pixart-neuron/` or `shapes-neuron/` and nothing else."""


@pytest.mark.e2e
@pytest.mark.ranks
@pytest.mark.soak
def test_the_pages_run_on_the_emulator(exported, tmp_path, monkeypatch):  # noqa: F811
    """README's pipeline first; pages that begin where it ends go on with it."""
    folder = exported(tensor_parallel_size=2, torch_dtype="float32")
    monkeypatch.chdir(tmp_path)
    for name in ("pixart-neuron", "shapes-neuron"):
        Path(name).symlink_to(folder)
    fresh_runtime()
    names: dict = {}
    for page in RUN:
        script = "\n".join(code for where, code in PYTHON.items() if where.startswith(f"{page}:"))
        assert script, f"{page} has no Python any more"
        if page == "docs/index.md":
            continue  # the words of README, of which one pipeline is enough
        exec(compile(script, page, "exec"), names)
    assert names["image"].size == (256, 256)
