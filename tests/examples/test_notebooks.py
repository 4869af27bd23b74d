"""The notebooks of `examples/` are their scripts, and run from top to bottom on the emulator."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from optimum_pixart_neuron.demo.demo import CHECKPOINT

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*_optimized.py"))
TIMEOUT = 300  # seconds for one cell


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_and_script_are_the_same(script):
    made, kept = jupytext.read(script), nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert cells(made) == cells(kept), "run `make notebooks`"


@pytest.mark.e2e
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.soak
def test_the_notebook_runs_from_top_to_bottom(script, tmp_path, monkeypatch):
    output = tmp_path / "pixart-neuron"
    monkeypatch.setenv("PIXART_MODEL", str(CHECKPOINT))
    monkeypatch.setenv("PIXART_OUTPUT", str(output))
    monkeypatch.setenv(
        "PIXART_PROMPT", "a large red circle on white" + "|a small cross" * ("throughput" in script.stem)
    )
    monkeypatch.setenv("PIXART_STEPS", "2")
    monkeypatch.setenv("PIXART_OPTIONS", "--tensor_parallel_size 2 --torch_dtype float32 --disable-validation")
    monkeypatch.delenv("PIXART_REPOSITORY", raising=False)
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(tmp_path)}}).execute()

    (shown,) = [
        part for cell in notebook.cells for part in cell.get("outputs", []) if part.output_type == "execute_result"
    ]
    assert "image/png" in shown.data
    columns = 4 if "throughput" in script.stem else 1
    assert Image.open(output.with_suffix(".png")).size == (256 * columns, 256)
    printed = "".join(part.get("text", "") for cell in notebook.cells for part in cell.get("outputs", []))
    for command in ("pixart-plan", "export neuron", "pixart-benchmark"):
        assert f"$ optimum-cli {command}" in printed or f"$ optimum-cli neuron {command}" in printed
