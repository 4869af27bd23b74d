"""Custom lowering of operations, chosen by variables that are read when torch_neuronx is imported, and never again."""

import os

VARIABLES = {"NEURON_FUSE_SOFTMAX": "softmax", "NEURON_CUSTOM_SILU": "silu"}
CUSTOM = tuple(operation for variable, operation in VARIABLES.items() if os.environ.get(variable) == "1")
"""Operations that are lowered so in this process. Softmax only where it is called as `torch.nn.functional.softmax` or
`torch.nn.Softmax`, which torch_neuronx replaces by its own."""
