"""Make optimum know this project's export configs."""

from ..neuron.sdk import ensure_sdk

_registered = False


def register() -> None:
    """Register the export configs for exporter "neuron", library "diffusers", in place of the host's. Idempotent.

    Pipelines that are not PixArt-Sigma keep the host's behaviour: each config extends the host's of its model type.
    """
    global _registered
    if _registered:
        return
    ensure_sdk()
    from optimum.exporters.tasks import TasksManager

    from .component import REGISTERED

    create = TasksManager.create_register("neuron", overwrite_existing=True)
    for (model_type, task), config_class in REGISTERED.items():
        create(model_type, task, library_name="diffusers")(config_class)
    _registered = True
