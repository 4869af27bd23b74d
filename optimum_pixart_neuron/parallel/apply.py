"""Put a sharding plan on an unmodified module, with NxD's parallel layers.

Called inside the parallel state that ModelBuilder sets up (NxD 0.15 `trace/model_builder.py`); imports of
neuronx_distributed stay inside the functions, because importing it needs the SDK or the emulator.
"""

import torch
from torch import nn

from .sharding import Placement, ShardingPlan


def apply_plan(plan: ShardingPlan, model: nn.Module, *, tensor_parallel_size: int, dtype: torch.dtype) -> None:
    """Replace the planned modules of `model` by parallel ones for one rank of `tensor_parallel_size`, in place.

    At one rank nothing is replaced. Collectives reduce in `dtype`: NxD's default is float32, twice the bytes.

    Raises:
        ShardingPlanError: the plan does not match the module's parameters one to one.
    """
    placements = plan.placements([name for name, _ in model.named_parameters()])
    if tensor_parallel_size == 1:
        return
    owners = {name.rpartition(".")[0]: p for name, p in placements.items() if not name.endswith(".bias")}
    for owner, placement in owners.items():
        if placement is not Placement.REPLICATED:
            replacement = _parallel_module(model.get_submodule(owner), placement, tensor_parallel_size, dtype)
            parent, _, name = owner.rpartition(".")
            setattr(model.get_submodule(parent), name, replacement)
    for divided in plan.divided:
        for path, module in model.named_modules():
            if divided.matches(path):
                for attribute in divided.attributes:
                    setattr(module, attribute, getattr(module, attribute) // tensor_parallel_size)


def _parallel_module(module: nn.Module, placement: Placement, ranks: int, dtype: torch.dtype) -> nn.Module:
    from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear

    if placement is Placement.FIRST_DIM:
        return _first_dim_class()(module, ranks)
    sizes = {"bias": module.bias is not None, "dtype": dtype, "reduce_dtype": dtype}
    if placement is Placement.COLUMN:
        return ColumnParallelLinear(module.in_features, module.out_features, gather_output=False, **sizes)
    return RowParallelLinear(module.in_features, module.out_features, input_is_parallel=True, **sizes)


def _first_dim_class() -> type[nn.Module]:
    from neuronx_distributed.parallel_layers.layers import BaseParallelLinear
    from neuronx_distributed.parallel_layers.utils import set_tensor_model_parallel_attributes

    class FirstDimParallel(BaseParallelLinear):
        """A module whose bare parameters are split over dim 0, used by calling it without arguments.

        NxD splits parameters only inside classes it knows (0.15 `trace/trace.py` `shard_children`), so this is one
        of them by inheritance; it has nothing else of a linear layer.
        """

        def __init__(self, whole: nn.Module, ranks: int) -> None:
            super().__init__()
            for name, parameter in whole.named_parameters():
                shape = (parameter.shape[0] // ranks, *parameter.shape[1:])
                shard = torch.empty(shape, dtype=parameter.dtype, device=parameter.device)
                self.register_parameter(name, nn.Parameter(shard, requires_grad=False))
                # After registering: under meta initialisation registering rebuilds the parameter from its __dict__.
                registered = getattr(self, name)
                set_tensor_model_parallel_attributes(registered, True, 0, 1, num_partitions=ranks)
            self._whole_forward = type(whole).forward

        def preshard_hook(self, model_state_dict: dict, prefix: str) -> bool:
            return False

        def forward(self):
            return self._whole_forward(self)

    return FirstDimParallel


def materialize(model: nn.Module) -> None:
    """Give meta parameters uninitialised CPU memory, in place, keeping ties and the attributes NxD set on them.

    Tracing needs tensors of the right shape, never their values; untouched pages of `torch.empty` cost no memory.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or parameter.device.type != "meta":
                continue
            if id(parameter) not in made:
                real = nn.Parameter(torch.empty_like(parameter, device="cpu"), requires_grad=False)
                real.__dict__.update(parameter.__dict__)
                made[id(parameter)] = real
            module._parameters[name] = made[id(parameter)]
