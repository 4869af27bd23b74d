"""Run a model whose weights do not fit in memory: each module has its weights only while it is called.

The model's code stays as it is; hooks put the weights in and take them out again. accelerate's disk offload does the
same from a copy of the weights that it writes to disk; here the checkpoint's safetensors are read where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ...errors import CheckpointError

if TYPE_CHECKING:
    from ...checkpoint.weights import ComponentWeights


def stream_weights(model: nn.Module, weights: ComponentWeights) -> nn.Module:
    """Make a model without weights runnable, in place.

    An embedding keeps the file's dtype, memory-mapped, and what is looked up is cast: of T5-XXL's table, 0.5 GB in
    float32, only the rows of the prompt are read.

    Args:
        model: its parameters on the meta device, in the dtype to compute in; its buffers real.
        weights: of the checkpoint, by state-dict name; a tied weight under any of its names.

    Raises:
        CheckpointError: a weight is missing; when the model runs: one has another shape.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            stored = {name: _stored(names[id(parameter)], weights) for name, parameter in own.items()}
            _install(module, own, stored, weights)
    return model.eval()


def _stored(names: list[str], weights: ComponentWeights) -> str:
    for name in names:
        if name in weights.files:
            return name
    raise CheckpointError(f"the checkpoint has no weight {names[0]}")


def _install(
    module: nn.Module, empty: dict[str, nn.Parameter], stored: dict[str, str], weights: ComponentWeights
) -> None:
    embedding = module if isinstance(module, nn.Embedding) else None

    def put_in(module: nn.Module, inputs: tuple) -> None:
        for name, parameter in empty.items():
            weight = _read(weights, stored[name], tuple(parameter.shape))
            weight = weight if embedding else weight.to(parameter.dtype)
            module._parameters[name] = nn.Parameter(weight, requires_grad=False)

    def take_out(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        module._parameters.update(empty)
        return output.to(embedding.weight.dtype) if embedding and isinstance(output, Tensor) else None

    module.register_forward_pre_hook(put_in)
    module.register_forward_hook(take_out, always_call=True)


def _read(weights: ComponentWeights, name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight on a mapping of its own, whose pages go with it; a mapping that stays open would keep them all."""
    weight = weights.read(name)
    if tuple(weight.shape) != shape:
        raise CheckpointError(f"weight {name} has shape {tuple(weight.shape)}, config.json asks for {shape}")
    return weight
