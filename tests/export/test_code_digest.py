"""A component that an interrupted export has finished is kept only if the code that made it is the same."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.components.text_encoder.spec import TEXT_ENCODER
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from tests.house.source import PACKAGE, product

# Reached from the compilation, and no part of what it writes.
NOT_COMPUTING = {
    "aten_graph": "the traced program is in the digest",
    "program.program": "the traced program is in the digest",
    "artifact.manifest": "records what was compiled",
    "artifact.manifest_records": "records what was compiled",
    "artifact.compiled": "names of files; what is in config.json is written anew by every run",
    "deployment.decisions": "what is decided is in the digest itself",
    "deployment.deployment": "what is decided is in the digest itself",
    "deployment.sides": "what is decided is in the digest itself",
    "deployment.options": "what is asked for is in the digest as far as it decides",
    "errors": "messages",
    "export.compiler_failure": "messages",
    "export.recipes": "what a program is found by; a program that is found is the one that would be compiled",
    "export.store": "keeps programs, whose content is in the digest of what they are found by",
    "export.options": "what is asked for is in the digest as far as it decides",
    "export.other_models": "messages",
    "hub": "downloads, whose content is in the digest",
    "hardware": "what is decided by it is in the digest itself",
    "options": "how options are read",
    "validation.options": "a tolerance changes no program",
}


@pytest.fixture
def record():
    ensure_sdk()  # the host's exporter, which the compilation extends, asks for it
    from optimum_pixart_neuron.export import record

    return record


@pytest.fixture
def config() -> SimpleNamespace:
    return SimpleNamespace(COMPONENT=TEXT_ENCODER, split=None)


@pytest.fixture
def edit(monkeypatch):
    """Have a file read as if somebody had edited it."""

    def edit_file(edited: Path) -> None:
        read = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == edited))

    return edit_file


@pytest.mark.parametrize(
    "edited",
    ["components/text_encoder/graph.py", "parallel/shard_writer.py", "neuron/compiler.py", "export/compile.py"],
    ids=["where the position bias is computed", "where shards are written", "flags", "the compilation"],
)
def test_an_edit_where_programs_are_made_is_seen(record, config, edit, edited):
    before = record.code_digest(config)
    edit(PACKAGE / edited)
    assert record.code_digest(config) != before


def test_an_edit_of_what_somebody_registered_is_seen(record, config, edit):
    class Elsewhere(type(TEXT_ENCODER)):
        pass

    mine = SimpleNamespace(COMPONENT=Elsewhere(), split=None)
    before = record.code_digest(config), record.code_digest(mine)
    edit(Path(__file__))
    assert record.code_digest(config) == before[0]
    assert record.code_digest(mine) != before[1]


def test_every_module_that_a_compilation_reaches_is_covered(record):
    modules = {module.name: module for module in product()}
    reached, open_ones = set(), ["export.compile", "export.describe"]
    while open_ones:
        name = open_ones.pop()
        if name in modules and name not in reached:
            reached.add(name)
            open_ones += modules[name].imports(late=True)
    covered = {name for name in reached if modules[name].path.as_posix().startswith(record.COMPUTING_CODE)}
    packages = {name for name in reached if modules[name].path.name == "__init__.py"}
    assert sorted(reached - covered - packages - NOT_COMPUTING.keys()) == []
