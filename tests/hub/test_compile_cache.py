"""What one machine compiled another fetches from the Hub, through optimum-neuron's own functions and registry."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.export.options import ExportOptions
from tests.compilers import StandInCompiler

from .exports import content

pytestmark = pytest.mark.e2e

REPOSITORY = "user/neuron-cache"
SMALL = {
    **{"height": 128, "width": 128, "sequence_length": 16, "tensor_parallel_size": 2},
    **{"vae_parallel": "one", "disable_validation": True},
}


@pytest.fixture
def machine(tmp_path, monkeypatch, hub, caplog):
    """Be a machine with a compile cache and a compiler of its own: `machine("first")` -> its compiler."""

    def become(name: str) -> StandInCompiler:
        monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / f"cache of {name}"))
        caplog.clear()
        return StandInCompiler(tmp_path / f"compiler of {name}", monkeypatch)

    monkeypatch.delenv("NEURON_CC_FLAGS")
    caplog.set_level("INFO", logger="optimum_pixart_neuron")
    hub.create(REPOSITORY)
    return become


def export(checkpoint: Path, output: Path, **options) -> None:
    from optimum_pixart_neuron.export.exporter import export as export_now

    export_now(ExportOptions(model=str(checkpoint), output=output, **SMALL, **options))


def test_programs_and_their_register(machine, hub, tiny_checkpoint, tmp_path, monkeypatch, caplog, capsys):
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()  # before the host's functions are imported, which look whether there is one
    from optimum.commands.neuron.cache import LookupRepoCommand
    from optimum.neuron.cache.entries import multi_model
    from optimum.neuron.cache.hub_cache import synchronize_hub_cache

    # What `optimum-cli` loads at its start, which extends the host's command.
    from optimum_pixart_neuron.commands.register import register_pixart_neuron  # noqa: F401

    first = machine("the first")
    monkeypatch.setenv("CUSTOM_CACHE_REPO", "somebody/nothing")  # that it cannot be read costs a compilation
    export(tiny_checkpoint, tmp_path / "first")
    assert len(first.calls) == 3
    synchronize_hub_cache(cache_path=os.environ["NEURON_COMPILE_CACHE_URL"], cache_repo_id=REPOSITORY)
    kept = hub.files(REPOSITORY)
    assert sum(name.endswith("+pixart/model.neuron") for name in kept) == 3
    assert not any(str(tmp_path).encode() in content for name, content in kept.items() if name.endswith(".json"))

    second = machine("the second")
    monkeypatch.setenv("CUSTOM_CACHE_REPO", REPOSITORY)
    export(tiny_checkpoint, tmp_path / "second")
    assert second.calls == []
    taken = [message for message in caplog.messages if message.endswith("taken from the compile cache")]
    assert len(taken) == 3
    for file in sorted((tmp_path / "first").rglob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "second" / file.relative_to(tmp_path / "first")).read_bytes()

    # As in a process that has exported nothing: the command alone makes our entries known.
    monkeypatch.setattr(multi_model, "MultiModelCacheEntry", multi_model.MultiModelCacheEntry.__base__)
    # A fine-tune: the configurations of the checkpoint.
    files = {name: file for name, file in content(tiny_checkpoint).items() if name.endswith(".json")}
    hub.create("somebody/fine-tune", files)
    monkeypatch.setenv("COLUMNS", "160")
    asked = {"task": "text-to-image", "instance_type": "trn1", "dtype": "bfloat16", "tensor_parallel_size": 2}
    for found, batch in ((True, 1), (False, 4)):
        lookup = LookupRepoCommand.__new__(LookupRepoCommand)
        lookup.args = SimpleNamespace(
            model_id="somebody/fine-tune", repo_id=REPOSITORY, batch_size=batch, sequence_length=16, **asked
        )
        lookup.run()
        printed = capsys.readouterr().out
        assert ("trn1 128x128 context" in printed) is found, printed


@pytest.mark.soak
def test_programs_of_an_export_on_the_hub(machine, hub, tiny_checkpoint, tmp_path, caplog):
    machine("the first")
    export(tiny_checkpoint, tmp_path / "first")
    hub.create("team/exported", content(tmp_path / "first"))
    second = machine("the second")
    export(tiny_checkpoint, tmp_path / "second", programs_from="team/exported")
    assert second.calls == []
    assert "[2/3] transformer: 2 rank(s), taken from team/exported" in caplog.messages
    assert hub.downloads() and not any("safetensors" in name for name in hub.downloads())


def test_a_session_of_the_host_outlasts_nothing(monkeypatch):
    """optimum-neuron's own way back is gone once a process: a second export would ask a Hub that nobody chose."""
    from optimum_pixart_neuron.neuron.compile_cache import CompileCache
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()
    from libneuronxla import neuron_cc_cache
    from optimum.neuron.cache.hub_cache import create_compile_cache, hub_neuronx_cache

    monkeypatch.setattr(neuron_cc_cache, "create_compile_cache", create_compile_cache)
    for _ in range(2):
        with CompileCache(enabled=True, repository=REPOSITORY).in_force():
            assert neuron_cc_cache.create_compile_cache is not create_compile_cache
        assert neuron_cc_cache.create_compile_cache is create_compile_cache
    with hub_neuronx_cache():
        pass
    with CompileCache(enabled=True).in_force():
        assert neuron_cc_cache.create_compile_cache is create_compile_cache


def test_an_entry_of_many_sizes_names_the_first():
    from optimum_pixart_neuron.export.cache_entry import cache_entry

    configs = {name: {"_class_name": "PixArtTransformer2DModel"} for name in ("text_encoder", "transformer")}
    sizes = [(1024, 1024), (768, 1344), (1344, 768), (512, 2048), (2048, 512)]
    entry = cache_entry("some/model", configs, {"target": "trn2", "parallel": {"mode": "context"}}, sizes)
    assert str(entry.neuron_config["target"]) == "trn2 1024x1024 1344x768 768x1344 and 2 more context"


def test_an_entry_takes_what_later_hosts_give_it():
    """0.4.6.dev4 hands an entry the configurations as the files have them, too."""
    from optimum_pixart_neuron.export.cache_entry import MultiModelCacheEntry

    configs = {"transformer": {"_class_name": "PixArtTransformer2DModel"}}
    entry = MultiModelCacheEntry("some/model", configs, raw_configs=configs)
    assert entry.arch_digest() == MultiModelCacheEntry("some/model", configs).arch_digest()


def test_other_pipelines_are_the_hosts():
    from optimum.neuron.cache.entries.cache_entry import ModelCacheEntry

    from optimum_pixart_neuron.export.cache_entry import MultiModelCacheEntry, register_cache_entry

    register_cache_entry()
    unet = {"_class_name": "UNet2DConditionModel", "neuron": {"batch_size": 1}}
    entry = MultiModelCacheEntry("some/model", {"unet": unet})
    assert entry.model_type == "stable-diffusion" and entry.neuron_config == {"batch_size": 1}
    again = ModelCacheEntry.deserialize(entry.serialize())
    assert (again.model_type, again.neuron_config) == (entry.model_type, entry.neuron_config)
    try:
        flux = MultiModelCacheEntry("some/model", {"transformer": {"_class_name": "FluxTransformer2DModel"}})
    except NotImplementedError:
        return  # 0.4.5
    assert flux.model_type == "diffusion-transformer"
