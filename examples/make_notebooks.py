"""Make the notebooks of this folder from their scripts and run them on the emulator, so that they show what comes.

    python examples/make_notebooks.py [latency_optimized throughput_optimized]

They run with the small trained checkpoint on two emulated cores, in a folder of their own; in float32, which CPUs are
quicker in, and without the validation, which takes a CPU minutes. What foreign packages warn of while they are
imported is left out of the outputs, as it names places of the machine.
"""

import os
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

from optimum_pixart_neuron.demo.demo import CHECKPOINT

HERE = Path(__file__).resolve().parent
SETTINGS = {
    "PIXART_MODEL": "checkpoint",
    "PIXART_STEPS": "20",
    "PIXART_OPTIONS": "--tensor_parallel_size 2 --torch_dtype float32 --disable-validation",
    "COLUMNS": "80",
}
PROMPTS = {
    "latency_optimized": "a large red circle left of a small blue square on white",
    "throughput_optimized": "three small green squares in a row on pink|a large orange triangle in the center on cyan",
}
FOREIGN = (
    *("site-packages", "warnings.warn(", "import tqdm as notebook_tqdm"),
    *("No major for neuron device", "Multiple distributions found"),
)


def run(name: str) -> nbformat.NotebookNode:
    """The notebook of a script, with its outputs."""
    notebook = jupytext.read(HERE / f"{name}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    os.environ.update(SETTINGS, PIXART_PROMPT=PROMPTS[name])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "checkpoint").symlink_to(CHECKPOINT)
        os.environ["NEURON_COMPILE_CACHE_URL"] = str(Path(folder, "cache"))  # as for who exports the first time
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [tidy(output) for output in joined(cell.outputs)]
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.outputs if output.get("text", "shown")]
    return notebook


def joined(outputs: list) -> list:
    """Outputs of one stream as one, where they follow each other."""
    found: list = []
    for output in outputs:
        if found and output.output_type == "stream" and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not any(words in line for words in FOREIGN))
    return output


if __name__ == "__main__":
    for chosen in sys.argv[1:] or PROMPTS:
        nbformat.write(run(chosen), HERE / f"{chosen}.ipynb")
        print(f"wrote {HERE / chosen}.ipynb")
