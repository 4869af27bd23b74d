"""Exceptions on their way through TorchScript, which makes each of them an error of thirty lines.

An operator that raises inside a script module leaves its exception here, and the module that was called raises that
one instead: Ctrl-C stays KeyboardInterrupt, what a signal handler raises stays what it is, and an error has its cause
in its first and only line.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_raised = threading.local()


def surfacing(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The implementation of an operator, made to leave what it raises for the module that was called."""

    @functools.wraps(operator)
    def remembering(*arguments: Any) -> Any:
        try:
            return operator(*arguments)
        except BaseException as error:
            _raised.error = error
            raise

    return remembering


class SurfacingModule(torch.jit.RecursiveScriptModule):
    """A script module that raises what its operators raised. Made of a loaded one by `surface`."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return _surfaced(super().__call__, arguments, keywords)

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "SurfacingModule":
        return surface(super().__deepcopy__(memo))


class SurfacingExecutor(SurfacingModule):
    """NxD's executor takes its inputs by position only."""

    def __call__(self, *inputs: Any) -> Any:
        return super().__call__(*inputs)


class SurfacingModel(SurfacingModule):
    """NxD's model, which is initialised by a call of its own, and may be asked for the outputs of every rank.

    `forward_ranked` is not among the scripts, which are part of the file format.
    """

    def initialize(self, checkpoint: list[dict[str, torch.Tensor]], start_rank_tensor: torch.Tensor) -> None:
        _surfaced(self._c._get_method("initialize"), (checkpoint, start_rank_tensor), {})

    def initialize_with_saved_weights(self, start_rank_tensor: torch.Tensor) -> None:
        _surfaced(self._c._get_method("initialize_with_saved_weights"), (start_rank_tensor,), {})

    def forward_ranked(self, inputs: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
        """Run each rank with inputs of its own: as NxD 0.15 `trace/spmd.py`, flat outputs of every rank."""
        from .spmd_ops import execute_ranked

        key, bucket = _surfaced(self._c._get_method("router"), (inputs[0],), {})
        if not torch.ops.neuron_emulator.is_loaded(self.handle):
            raise torch.jit.Error("ValueError: This model is not initialized, please call nxd_model.initialize(...)")
        return execute_ranked(self.handle, self.offsets[key] + bucket, inputs)


def surface(module: nn.Module) -> Any:
    """Have a script module of the emulator raise what its operators raise, in place; other modules are left alone."""
    names = {"NxDModelExecutor": SurfacingExecutor, "NxDModel": SurfacingModel, "NeuronModule": SurfacingModule}
    for part in module.modules():
        chosen = names.get(getattr(part, "original_name", ""))
        if chosen is not None and type(part) is torch.jit.RecursiveScriptModule:
            part.__class__ = chosen
            for name in chosen.__dict__.keys() & part.__dict__.keys() - {"__doc__", "__module__"}:
                del part.__dict__[name]  # a freshly made module has its own methods among its attributes
    return module


def _surfaced(call: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    _raised.error = None
    try:
        return call(*arguments, **keywords)
    except torch.jit.Error as error:  # raised by the script itself
        raise torch.jit.Error(str(error).strip().splitlines()[-1].removeprefix("builtins.")) from None
    except Exception:
        if _raised.error is None:
            raise
        raise _raised.error from None
    finally:
        _raised.error = None
