"""Proof: who replaces a component's config in optimum's TasksManager, by its own call, changes the export."""

import pytest

from optimum_pixart_neuron import register
from optimum_pixart_neuron.components.registry import COMPONENTS

from ..e2e.conftest import describe, sdk  # noqa: F401

DECODER = COMPONENTS["vae_decoder"]


def registered() -> type:
    """What any code of optimum gets that asks for the config of a VAE's decoder."""
    from optimum.exporters.tasks import TasksManager

    constructor = TasksManager.get_exporter_config_constructor(
        exporter="neuron", model_type=DECODER.model_type, task=DECODER.task, library_name="diffusers"
    )
    return constructor.func


def replace(config: type) -> None:
    from optimum.exporters.tasks import TasksManager

    create = TasksManager.create_register("neuron", overwrite_existing=True)
    create(DECODER.model_type, DECODER.task, library_name="diffusers")(config)


@pytest.fixture
def ours(sdk) -> type:  # noqa: F811
    register()
    config = registered()
    yield config
    replace(config)


def results(component) -> list[tuple[int, ...]]:
    """Shapes of what the program of an export returns."""
    from optimum_pixart_neuron.program.program import trace_program

    graph = trace_program(component.build, component.example_inputs(), 1, 1).graph.graph_module.graph
    (output,) = [node for node in graph.nodes if node.op == "output"]
    return [tuple(node.meta["val"].shape) for node in output.args[0]]


@pytest.mark.seconds
def test_the_exporter_takes_the_config_that_the_tasks_manager_has(ours, tiny_checkpoint):
    def decoder():
        return describe(tiny_checkpoint, tensor_parallel_size=1)[1][DECODER.name]

    assert ours.COMPONENT is DECODER, "register() put it there, and optimum gives it to whoever asks"
    assert results(decoder()) == [(1, 3, 256, 256)]

    class InHalf(ours):
        def build_unsharded(self):
            module = super().build_unsharded()
            module.register_forward_hook(lambda _, inputs, output: {"sample": output["sample"][..., :128]})
            return module

    replace(InHalf)
    register()
    assert registered() is InHalf, "registering again takes nothing back"
    assert isinstance(decoder(), InHalf)
    assert results(decoder()) == [(1, 3, 256, 128)]
