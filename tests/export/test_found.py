"""Which files of programs an earlier export has, and what is said of the others; nothing is compiled."""

from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.artifact.manifest_records import ProgramRecipe, ProgramRecord
from optimum_pixart_neuron.export.earlier import EarlierExport
from optimum_pixart_neuron.export.found import find_programs
from optimum_pixart_neuron.files import FileRecord
from optimum_pixart_neuron.neuron.compile_cache import CompileCache

from ..hub.exports import components

FIRST, OTHER = "model.neuron", "192x128/model.neuron"


def recipe(graph: str, **changed) -> ProgramRecipe:
    common = {"compiler_args": "-O1", "target": "trn1", "ranks": 1, "lnc": 1, "versions": {}}
    return ProgramRecipe(graph=graph, **{**common, **changed})


A, B, C = map(recipe, "abc")


@pytest.fixture
def found(tmp_path, logged):
    """Look for files in an export that has others: `found(wanted, has)`, both file -> recipes."""

    def find(wanted: dict[str, tuple], has: list[tuple[str, ProgramRecipe]]):
        programs = tuple(ProgramRecord(name="p", file=file, inputs=(), outputs=()) for file, _ in has)
        recipes = tuple(each for _, each in has)
        component = components(1)["vae_decoder"].model_copy(update={"programs": programs, "recipes": recipes})
        files = {}
        for file, _ in has:
            path = tmp_path / "vae_decoder" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
            files[f"vae_decoder/{file}"] = FileRecord.of(path)
        manifest = Manifest.model_construct(components={"vae_decoder": component}, files=files)
        job = SimpleNamespace(name="vae_decoder", files=wanted, cache=CompileCache(enabled=False))
        logged.clear()
        return find_programs(job, EarlierExport("old", tmp_path, manifest))

    return find


def test_each_file_is_taken_by_what_it_is_made_of(found, logged):
    """The earlier export's second size is this one's first."""
    taken = found({FIRST: (B,), OTHER: (C,)}, [(FIRST, A), (OTHER, B)])
    assert taken == {FIRST: (OTHER.encode(), "old")}
    assert logged.messages == [
        f"    vae_decoder/{OTHER} is not taken from old: another traced graph (sizes, dtype, mode or configuration)"
    ]


def test_programs_of_one_file_are_taken_together(found, logged):
    assert found({FIRST: (A, B)}, [(FIRST, A), (FIRST, B)]) == {FIRST: (FIRST.encode(), "old")}
    assert found({FIRST: (A, B, C)}, [(FIRST, A), (FIRST, B)]) == {}
    (said,) = logged.messages
    assert "not taken from old: its file holds 2 program(s), 2 of the 3 asked for, and is taken whole" in said
    assert found({FIRST: (B, A)}, [(FIRST, A), (FIRST, B)]) == {}, "the first decides the layout of weights"


def test_what_differs_is_said_whatever_their_number(found, logged):
    assert found({FIRST: (recipe("d", ranks=8), C)}, [(FIRST, A)]) == {}
    assert logged.messages[0].endswith("ranks 1, not 8; another traced graph (sizes, dtype, mode or configuration)")
    older = recipe("a", versions={"neuronx-cc": "2.20"})
    assert found({FIRST: (recipe("a", versions={"neuronx-cc": "2.21"}),)}, [(FIRST, older)]) == {}
    assert logged.messages[0].endswith("neuronx-cc 2.20, not 2.21")


def test_a_manifest_names_no_file_elsewhere(found, tmp_path):
    (tmp_path / "elsewhere").write_text("x")
    assert found({FIRST: (A,)}, [("../elsewhere", A)]) == {}
