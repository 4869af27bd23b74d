"""Make optimum know the export configs of every component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..neuron.sdk import ensure_sdk

if TYPE_CHECKING:
    from .component import Component

_registered: dict[str, Component] = {}


def register() -> None:
    """Register the export configs for exporter "neuron", library "diffusers", in place of the host's. Idempotent.

    A component that is already there keeps the config that the TasksManager has for it, whoever put it there since.
    Pipelines that are not PixArt-Sigma keep the host's behaviour: each config extends the host's of its model type.
    """
    ensure_sdk()
    from optimum.exporters.tasks import TasksManager

    from .export_config import EXPORTER, LIBRARY, config_class
    from .registry import COMPONENTS

    create = TasksManager.create_register(EXPORTER, overwrite_existing=True)
    for name, component in COMPONENTS.items():
        if _registered.get(name) is not component:
            create(component.model_type, component.task, library_name=LIBRARY)(config_class(component))
            _registered[name] = component
