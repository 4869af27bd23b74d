"""What editors and notebooks show of functions that take arguments by name only as they come."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def with_arguments_of(shown: Callable[..., Any]) -> Callable[[Function], Function]:
    """Decorator: show the named arguments of another function, and those of the own that are taken by name alone.

    What is caught by `**kwargs` there is left out.
    """
    signature = inspect.signature(shown)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]

    def decorate(function: Function) -> Function:
        own = [each for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
        whole = signature.replace(parameters=[*parameters, *own])
        function.__signature__ = whole  # type: ignore[attr-defined]  # as PEP 362
        return function

    return decorate


class WithExportOptions:
    """A function whose `**options` are shown as the options of an export.

    Those are looked up when somebody asks: loading what is compiled needs no exporter.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        from ..export.options import ExportOptions

        signature = inspect.signature(self._function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = {"model", *(each.name for each in own)}
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if field.is_required() else field.default,
                annotation=field.annotation,
            )
            for name, field in ExportOptions.model_fields.items()
            if name not in taken
        ]
        return signature.replace(parameters=[*own, *options])
