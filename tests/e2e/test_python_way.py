"""The package from Python: compile and load in one call, and what importing and registering it changes."""

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
from optimum_pixart_neuron.errors import DeviceError, InvalidExportOption
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from ..parity import psnr
from .conftest import PROMPTS, load_stock, pipeline_arguments

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
    image = pipe(PROMPTS[0], **pipeline_arguments(1)).images[0]
    assert psnr(image, reference(PROMPTS[0], **pipeline_arguments(1)).images[0]) >= 55
    del pipe
    gc.collect()
    assert not folder.exists(), "a folder that nobody asked for lives as long as its pipeline"


@pytest.mark.soak
def test_without_a_device_the_artifacts_stay_and_are_named(
    pipeline_class, tiny_checkpoint, tmp_path, monkeypatch, reference
):
    """The SDK is installed but the machine has no NeuronCore: compiling works there, loading does not."""
    without_device = NeuronSdk(emulated=False, instance=None)
    with monkeypatch.context() as patch:
        for name in (
            "runtime.compile_first.ensure_sdk",
            "runtime.compile_first.sdk_for",
            "export.exporter.ensure_sdk",
        ):
            patch.setattr(f"optimum_pixart_neuron.{name}", lambda *_: without_device)
        with pytest.raises(
            InvalidExportOption, match="no Neuron device to compile for; name one with --instance_type"
        ):
            pipeline_class.from_pretrained(tiny_checkpoint, export=True)
        options = {"instance_type": "trn1", "tensor_parallel_size": 2, "output": tmp_path / "compiled"}
        with pytest.raises(
            DeviceError, match=f"compiled into {tmp_path / 'compiled'}, but loading it needs a machine"
        ):
            pipeline_class.from_pretrained(tiny_checkpoint, export=True, **options)
    image = load_stock(tmp_path / "compiled")(PROMPTS[0], **pipeline_arguments(1)).images[0]
    assert psnr(image, reference(PROMPTS[0], **pipeline_arguments(1)).images[0]) >= 38


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
def tasks_manager(sdk):
    """optimum's registry with the host's own configs, as it was again afterwards."""
    from optimum.exporters.neuron import model_configs
    from optimum.exporters.tasks import TasksManager

    registry, was = TasksManager._LIBRARY_TO_SUPPORTED_MODEL_TYPES["diffusers"], dict(registration._registered)
    before = {model: {key: dict(tasks) for key, tasks in exporters.items()} for model, exporters in registry.items()}
    registration._registered.clear()
    put_back = TasksManager.create_register("neuron", overwrite_existing=True)
    for each in COMPONENTS.values():
        put_back(each.model_type, each.task, library_name="diffusers")(getattr(model_configs, each.host_config))
    yield TasksManager
    registration._registered.clear()
    registration._registered.update(was)
    registry.clear()
    registry.update(before)


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
    ours_by_design = {("TextEncoderNeuronConfig", name) for name in ("get_parallel_callable", "checkpoint_loader_fn")}
    assert changed == ours_by_design

    monkeypatch.setattr(HostT5, "get_parallel_callable", lambda self: "the host's module")
    monkeypatch.setattr(HostT5, "checkpoint_loader_fn", lambda self, mmap=False: f"the host's weights, {mmap}")
    config = object.__new__(text_encoder)  # the host sets what its own methods need
    assert config.get_parallel_callable() == "the host's module"
    assert config.checkpoint_loader_fn(mmap=True) == "the host's weights, True"
