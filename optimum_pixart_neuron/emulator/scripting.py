"""TorchScript made from text: modules whose arguments and outputs are only known when something has been compiled."""

from typing import Any

import torch
from torch import nn


def define_module(module: nn.Module, source: str) -> torch.jit.ScriptModule:
    """Script `module` without its own methods and give it those in `source` instead."""
    # types are not shared: each module of the class gets a forward of its own
    scripted = torch.jit._recursive.create_script_module(module, lambda _: [], share_types=False)
    scripted.define(source)
    return scripted


class Packer(nn.Module):
    """Scripted. Arranges the flat outputs of a program as the traced module returned them."""


def packer_of(structure: Any) -> torch.jit.ScriptModule:
    """A packer for `Program.structure`; RuntimeError when TorchScript has no type for it."""
    _type_of(structure)
    source = f"def forward(self, flat: List[Tensor]):\n    return {pack_expression(structure)}\n"
    return define_module(Packer(), source)


def pack_expression(structure: Any, flat: str = "flat") -> str:
    """TorchScript expression that builds the structure from the list named `flat`."""
    if isinstance(structure, int):
        return f"{flat}[{structure}]"
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{key!r}: {pack_expression(item, flat)}" for key, item in structure.items()) + "}"
    items = ", ".join(pack_expression(item, flat) for item in structure[1:])
    return f"[{items}]" if structure[0] == "list" else f"({items},)"


def _type_of(structure: Any) -> str:
    if isinstance(structure, int):
        return "Tensor"
    items = [_type_of(item) for item in (structure.values() if isinstance(structure, dict) else structure[1:])]
    if not items:
        raise RuntimeError("the module returns an empty container: return at least one tensor")
    if not isinstance(structure, dict) and structure[0] == "tuple":
        return f"Tuple[{', '.join(items)}]"
    if len(set(items)) > 1:
        raise RuntimeError(f"a dict or list with items of types {', '.join(items)} cannot be returned: use a tuple")
    return f"Dict[str, {items[0]}]" if isinstance(structure, dict) else f"List[{items[0]}]"
