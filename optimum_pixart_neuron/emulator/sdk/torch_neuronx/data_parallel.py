"""`torch_neuronx.DataParallel` (torch-neuronx API reference, DataParallel): one module, its batch split over cores."""

import copy
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from optimum_pixart_neuron.emulator import single_core
from optimum_pixart_neuron.emulator.device import current_device

from .loading import dynamic_batch
from .placement import set_neuron_cores

logger = logging.getLogger(__name__)


class DataParallel(nn.Module):
    """Run chunks of a batch on several NeuronCores.

    Every tensor input is split along `dim` into one chunk per core, sizes differing by at most one; a batch smaller
    than the number of cores gives chunks of one. Without dynamic batching each chunk must have the compiled size.

    Args:
        model: a traced module. On consecutive cores it is replicated itself, otherwise one copy is made per core.
        device_ids: visible cores, by default all.
        dim: the dimension to split.
        set_dynamic_batching: let chunks be of any size; only for `dim` 0.

    Attributes:
        num_workers: threads that wait for cores, by default two per core.
        split_size: chunk size along `dim` instead of the rule above; -1 for the rule.
    """

    def __init__(
        self,
        model: torch.jit.ScriptModule,
        device_ids: Sequence[int] | None = None,
        dim: int = 0,
        set_dynamic_batching: bool = True,
    ):
        super().__init__()
        self.device_ids = list(range(len(current_device().visible))) if device_ids is None else list(device_ids)
        if not self.device_ids:
            raise ValueError("device_ids is empty: name at least one NeuronCore")
        self.dim = dim
        self.module = model
        self.num_workers = 2 * len(self.device_ids)
        self.split_size = -1
        self.dynamic_batching = set_dynamic_batching
        self._placement_error: ValueError | None = None
        self._copies = [model]
        try:
            self._place()
        except ValueError as error:
            self._placement_error = error
            logger.warning("DataParallel runs on the default NeuronCore only: %s", error)
        if set_dynamic_batching and dim == 0:
            for each in self._copies:
                dynamic_batch(each)

    def _place(self) -> None:
        first, count = self.device_ids[0], len(self.device_ids)
        if self.device_ids == list(range(first, first + count)):
            set_neuron_cores(self.module, first, count)
            return
        copies = [copy.deepcopy(self.module) for _ in range(count)]
        for each, core in zip(copies, self.device_ids):
            set_neuron_cores(each, core, 1)
        self._copies = copies

    def disable_dynamic_batching(self) -> None:
        """Require the compiled batch size of every chunk again."""
        self.dynamic_batching = False
        for each in self._copies:
            for model in single_core.neuron_models(each):
                model.dynamic_batch = False

    def forward(self, *inputs: Any) -> Any:
        """Split, run, gather. Results arrive in order; along `dim`, scalars joined into a vector.

        Raises:
            RuntimeError: with dynamic batching, when the cores were not available or `dim` is not 0; else whatever a
                chunk's run raises.
        """
        if self.dynamic_batching and self._placement_error is not None:
            raise RuntimeError(f"DataParallel could not be placed: {self._placement_error}")
        if self.dynamic_batching and self.dim != 0:
            raise RuntimeError(f"dynamic batching splits dim 0, not {self.dim}: pass set_dynamic_batching=False")
        jobs = self._scatter(inputs)
        if len(jobs) % len(self.device_ids):
            logger.warning("%d jobs on %d NeuronCores leave some idle", len(jobs), len(self.device_ids))
        with ThreadPoolExecutor(max_workers=self.num_workers) as pool:
            running = [pool.submit(self._copies[i % len(self._copies)], *job) for i, job in enumerate(jobs)]
            return _gather([each.result() for each in running], self.dim)

    def _scatter(self, inputs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if not tensors:
            raise RuntimeError("DataParallel needs at least one tensor to split")
        batch = tensors[0].shape[self.dim]
        if self.split_size > 0:
            full, rest = divmod(batch, self.split_size)
            sizes = [self.split_size] * full + [rest] * bool(rest)
        else:
            quotient, remainder = divmod(batch, len(self.device_ids))
            sizes = [quotient + (index < remainder) for index in range(len(self.device_ids))]
        sizes = [size for size in sizes if size]
        for value in tensors:
            if value.shape[self.dim] != batch:
                raise RuntimeError(f"inputs have sizes {batch} and {value.shape[self.dim]} along dim {self.dim}")
        columns = [
            value.split(sizes, self.dim) if isinstance(value, Tensor) else [value] * len(sizes) for value in inputs
        ]
        return list(zip(*columns))


def _gather(results: list[Any], dim: int) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(results, dim) if first.dim() else torch.stack(results)
    if isinstance(first, dict):
        return type(first)((key, _gather([result[key] for result in results], dim)) for key in first)
    if isinstance(first, (tuple, list)):
        return type(first)(_gather(list(parts), dim) for parts in zip(*results))
    return results
