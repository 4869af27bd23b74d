"""Files of one compiled bucket, in the places of NxD's `graph.hlo`, `graph.neff`, `metaneff.pb` and compiler log."""

import json
from pathlib import Path

from torch_neuronx.lowering import CUSTOM

from optimum_pixart_neuron.emulator.program import Program


def write_graph(program: Program, directory: Path, compiler_args: str) -> None:
    """`model/graph.hlo` holds the traced graph as text, one operation per line; `command.txt` the compiler flags."""
    (directory / "model").mkdir(parents=True, exist_ok=True)
    custom = "".join(f"custom lowering of {operation}\n" for operation in CUSTOM)
    (directory / "model" / "graph.hlo").write_text(custom + graph_text(program))
    (directory / "command.txt").write_text(f"neuronx-cc (emulated) {compiler_args}\n")


def write_program(program: Program, directory: Path) -> None:
    """`graph.neff` holds the program's bytes, `metaneff.pb` the names and shapes of what goes in and out, as JSON."""
    (directory / "graph.neff").write_bytes(program.to_bytes())
    signature = {
        "weights": {name: str(spec) for name, spec in zip(program.weight_names, program.weights)},
        "inputs": {name: str(spec) for name, spec in zip(program.input_names, program.inputs)},
        "outputs": [str(spec) for spec in program.outputs],
    }
    (directory / "metaneff.pb").write_text(json.dumps(signature, indent=1))


def graph_text(program: Program) -> str:
    """The program as text, values numbered as in `serialization`: weights, inputs, constants, operations."""
    parameters = [f"weight {name}: {spec}" for name, spec in zip(program.weight_names, program.weights)]
    parameters += [f"input {name}: {spec}" for name, spec in zip(program.input_names, program.inputs)]
    parameters += [f"constant: {constant.dtype} {list(constant.shape)}" for constant in program.constants]
    operations = [
        f"{instruction.operation}{instruction.arguments} {instruction.keywords or ''}".rstrip()
        for instruction in program.instructions
    ]
    numbered = [f"%{number} = {line}" for number, line in enumerate([*parameters, *operations])]
    return "\n".join([*numbered, f"return {program.results}", ""])
