"""The package from Python: compile and load in one call, and what importing and registering it changes."""

import copy
import gc
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optimum_pixart_neuron import register
from optimum_pixart_neuron.components import registration
from optimum_pixart_neuron.components.registry import COMPONENTS

from ..parity import psnr
from .conftest import picture

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module")
def pipeline_class(sdk):
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    return NeuronPixArtSigmaPipeline


@pytest.mark.soak
def test_compiles_and_returns_a_loaded_pipeline(pipeline_class, tiny_checkpoint, reference, capfd):
    capfd.readouterr()
    pipe = pipeline_class.from_pretrained(
        tiny_checkpoint, export=True, tensor_parallel_size=2, torch_dtype=torch.float32
    )
    shown = capfd.readouterr()
    assert shown.out == "", "a program that asks for no log gets none"
    assert "%|" not in shown.err, "bars are for terminals"
    folder = Path(pipe.model_save_dir).parent
    assert (folder / "pipeline" / "model_index.json").exists()
    assert psnr(picture(pipe), picture(reference)) >= 55
    del pipe
    gc.collect()
    assert not folder.exists(), "a folder that nobody asked for lives as long as its pipeline"


def test_importing_the_package_changes_nothing():
    code = """
import os, signal, sys
environment, modules, path, handler = dict(os.environ), set(sys.modules), list(sys.path), signal.getsignal(2)
finders = list(sys.meta_path)
import optimum_pixart_neuron
from optimum_pixart_neuron import register
assert (dict(os.environ), sys.path, signal.getsignal(2)) == (environment, path, handler)
assert sys.meta_path == finders
print({name.partition(".")[0] for name in set(sys.modules) - modules} - set(sys.stdlib_module_names))
"""
    # This process has imported the package: what that may have set must not be inherited.
    environment = {name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{'optimum_pixart_neuron'}\n", "")


@pytest.fixture
def tasks_manager(sdk, monkeypatch):
    """optimum's registry with the host's own configs."""
    from optimum.exporters.neuron import model_configs
    from optimum.exporters.tasks import TasksManager

    registry = "_LIBRARY_TO_SUPPORTED_MODEL_TYPES"
    monkeypatch.setattr(TasksManager, registry, copy.deepcopy(getattr(TasksManager, registry)))
    monkeypatch.setattr(registration, "_registered", {})
    put_back = TasksManager.create_register("neuron", overwrite_existing=True)
    for each in COMPONENTS.values():
        put_back(each.model_type, each.task, library_name="diffusers")(getattr(model_configs, each.host_config))
    return TasksManager


def registered(tasks_manager, model_type: str, task: str) -> type:
    constructor = tasks_manager.get_exporter_config_constructor(
        exporter="neuron", model_type=model_type, task=task, library_name="diffusers"
    )
    return constructor.func


def ours() -> dict[tuple[str, str], type]:
    """Our export configs, by the model type and task under which the TasksManager should have them."""
    from optimum_pixart_neuron.components.export_config import config_class

    return {(each.model_type, each.task): config_class(each) for each in COMPONENTS.values()}


def test_registering_replaces_the_hosts_configs_once(tasks_manager):
    expected = ours()
    hosts = {key: registered(tasks_manager, *key) for key in expected}
    others = registered(tasks_manager, "flux-transformer-2d", "semantic-segmentation")
    for _ in range(2):
        register()
        assert {key: registered(tasks_manager, *key) for key in expected} == expected
    assert all(issubclass(own, hosts[key]) and own is not hosts[key] for key, own in expected.items())
    assert registered(tasks_manager, "flux-transformer-2d", "semantic-segmentation") is others


OF_THE_CLASS = ("abstractmethods", "annotations", "dict", "doc", "module", "weakref")
NOT_BEHAVIOUR = {*(f"__{name}__" for name in OF_THE_CLASS), "_abc_impl"}


def test_pipelines_of_the_host_keep_its_behaviour(monkeypatch):
    """Flux has a T5 and Stable Diffusion a VAE; once we are registered the host builds their configs from our classes.

    Whatever the host's class offers must be the host's; two methods are ours and hand on without our checkpoint.
    """
    from optimum.exporters.neuron.model_configs import T5EncoderForDiffusersNeuronConfig as HostT5

    from optimum_pixart_neuron.components.export_config import config_class

    text_encoder = config_class(COMPONENTS["text_encoder"])
    changed = set()
    for own in ours().values():
        host = next(base for base in own.__mro__ if base.__module__.startswith("optimum.exporters"))
        for name in [name for name in dir(host) if name not in NOT_BEHAVIOUR]:
            if inspect.getattr_static(own, name) is not inspect.getattr_static(host, name):
                changed.add((own.__name__, name))
    assert changed == {(text_encoder.__name__, name) for name in ("get_parallel_callable", "checkpoint_loader_fn")}

    monkeypatch.setattr(HostT5, "get_parallel_callable", lambda self: "the host's module")
    monkeypatch.setattr(HostT5, "checkpoint_loader_fn", lambda self, mmap=False: f"the host's weights, {mmap}")
    config = object.__new__(text_encoder)  # the host sets what its own methods need
    assert config.get_parallel_callable() == "the host's module"
    assert config.checkpoint_loader_fn(mmap=True) == "the host's weights, True"
