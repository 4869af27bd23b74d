"""What stands between an export and the real compiler: each fault that the real SDK has shown has its test here.

The emulator behaves as NxD 0.15, libneuronxla 2.2 and torch_neuronx 2.8 do around the compiler.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from optimum_pixart_neuron.errors import CompilationFailed, InvalidExportOption
from optimum_pixart_neuron.neuron.compile_cache import CompileCache
from optimum_pixart_neuron.neuron.compiler import environment_variables
from optimum_pixart_neuron.neuron.sdk import LOWERING, ensure_sdk

from ..e2e.conftest import describe
from ..processes import assert_all_end

ONE_RANK, TWO_RANKS = "vae_decoder", "text_encoder"


@pytest.fixture(scope="module")
def two_ranks(tiny_checkpoint):
    """The decisions for two ranks, and the components by name."""
    return describe(tiny_checkpoint, tensor_parallel_size=2, vae_parallel="one", sequence_length=8)


@pytest.fixture
def compile_one(two_ranks, tmp_path):
    """Compile a component into a folder and return that: `compile_one("transformer", workdir=...)`."""
    from optimum_pixart_neuron.export.compile import CompileJob, compile_component

    deployment, components = two_ranks

    def compile_named(name: str, number: int = 1, **changed) -> Path:
        component, folder = components[name], tmp_path / f"export {number}"
        choices = {"cache": CompileCache(enabled=False), "workdir": tmp_path / f"work {number}", **changed}
        with environment_variables(deployment.compiler.environment(component.ranks)), torch.no_grad():
            compile_component(CompileJob(component=component, compiler=deployment.compiler, folder=folder, **choices))
        return folder

    return compile_named


@pytest.mark.seconds
@pytest.mark.parametrize("name", [ONE_RANK, TWO_RANKS])
def test_paths_with_spaces_and_quotes(compile_one, tmp_path, name, neuronx_cc):
    """NxD appends paths to the flags without quotes, and the flags are split as a shell splits them."""
    folder = compile_one(name, workdir=tmp_path / 'the user\'s "work" folder')
    assert (folder / "model.neuron").is_file()
    (call,) = neuronx_cc.calls
    assert "user's" not in call and call.count("--target") == 1


def test_no_folder_whose_path_is_one_word(compile_one, tmp_path, monkeypatch):
    from optimum_pixart_neuron.export import workplace

    monkeypatch.setattr(workplace, "_is_one_word", lambda path: False)
    with pytest.raises(InvalidExportOption, match="takes no path with spaces or quotes.* set TMPDIR"):
        compile_one(TWO_RANKS)


@pytest.mark.seconds
def test_what_is_compiled_is_looked_up_by_program_and_flags_alone(compile_one, tmp_path, neuronx_cc):
    """Two exports into other folders, by way of other working folders: the second finds what the first compiled."""
    cache = CompileCache(enabled=True, url=str(tmp_path / "cache"))
    compile_one(TWO_RANKS, 1, cache=cache)
    assert len(neuronx_cc.calls) == 1
    compile_one(TWO_RANKS, 2, cache=cache)
    assert len(neuronx_cc.calls) == 1
    assert len(list((tmp_path / "cache").glob("neuronxcc-*/MODULE_*"))) == 1


@pytest.mark.seconds
def test_without_a_cache_nothing_is_looked_up_or_stored(compile_one, tmp_path, neuronx_cc, monkeypatch):
    """ModelBuilder asks the cache whatever one says."""
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / "cache"))
    on, off = CompileCache.chosen(os.environ | {"NEURON_CC_FLAGS": ""}), CompileCache(enabled=False)
    compile_one(TWO_RANKS, 1, cache=off)
    assert not (tmp_path / "cache").exists()
    compile_one(TWO_RANKS, 2, cache=on)
    compile_one(TWO_RANKS, 3, cache=off)
    assert len(neuronx_cc.calls) == 3
    assert os.environ["NEURON_COMPILE_CACHE_URL"] == str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("variables", "enabled", "url", "others"),
    [
        ({}, True, None, None),
        ({"NEURON_COMPILE_CACHE_URL": "/cache"}, True, "/cache", None),
        ({"NEURON_COMPILE_CACHE_URL": "s3://bucket/cache"}, True, "s3://bucket/cache", None),
        ({"NEURON_COMPILE_CACHE_URL": "cache"}, True, f"{os.getcwd()}/cache", None),
        ({"NEURON_CC_FLAGS": "--cache_dir=/a"}, True, "/a", ""),
        ({"NEURON_CC_FLAGS": "-O1 --cache_dir '/a b' -v", "NEURON_COMPILE_CACHE_URL": "/c"}, True, "/a b", "-O1 -v"),
        ({"NEURON_CC_FLAGS": "--no_cache", "NEURON_COMPILE_CACHE_URL": "/c"}, False, "/c", ""),
    ],
    ids=str,
)
def test_the_variables_of_the_sdk(variables, enabled, url, others):
    assert CompileCache.chosen(variables) == CompileCache(enabled=enabled, url=url, other_flags=others)
    assert not CompileCache.chosen(variables, disabled=True).enabled


@pytest.mark.parametrize(("flags", "reason"), [("--x '", "close the quote"), ("--cache_dir", "needs a folder")])
def test_variables_that_cannot_be_read(flags, reason):
    with pytest.raises(InvalidExportOption, match=f"NEURON_CC_FLAGS={flags}.*{reason}"):
        CompileCache.chosen({"NEURON_CC_FLAGS": flags})


@pytest.mark.seconds
def test_compiling_holds_no_cores(compile_one):
    """A trace that is not for the CPU backend would start the runtime here, and the validation's process need it."""
    from optimum_pixart_neuron.emulator.device import hold_cores, reset_device

    child = (
        "from optimum_pixart_neuron import emulator; emulator.activate();"
        " from optimum_pixart_neuron.emulator.device import current_device; current_device()"
    )
    compile_one(ONE_RANK)
    assert subprocess.run([sys.executable, "-c", child]).returncode == 0
    hold_cores()
    try:
        held = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
        assert "NeuronCore(s) not available" in held.stderr
    finally:
        reset_device()


@pytest.mark.seconds
@pytest.mark.parametrize("name", [ONE_RANK, TWO_RANKS])
def test_the_log_of_a_compiler_that_fails_is_kept(compile_one, tmp_path, neuronx_cc, name):
    neuronx_cc.fails("ERROR: [NCC_EBVF030] 5,400,000 instructions")
    with pytest.raises(CompilationFailed, match=rf"{name} could not be compiled: .*NCC_EBVF030"):
        compile_one(name, keep_log=lambda log: log.rename(tmp_path / "kept.txt"))
    assert (tmp_path / "kept.txt").read_text() == "ERROR: [NCC_EBVF030] 5,400,000 instructions\n"


@pytest.mark.seconds
def test_a_compiler_that_is_killed(compile_one, neuronx_cc):
    neuronx_cc.is_killed()
    with pytest.raises(CompilationFailed, match="memory was full"):
        compile_one(TWO_RANKS)


@pytest.mark.seconds
def test_a_compiler_that_hangs_ends_with_the_interrupted_export(compile_one, neuronx_cc):
    def interrupt() -> None:
        while neuronx_cc.hanging is None:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    neuronx_cc.hangs()
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        compile_one(TWO_RANKS)
    interrupting.join()
    assert_all_end([neuronx_cc.hanging], 10)


@pytest.mark.seconds
@pytest.mark.parametrize("name", [ONE_RANK, TWO_RANKS])
def test_the_users_current_folder_is_left_alone(compile_one, tmp_path, monkeypatch, neuronx_cc, name):
    """The layout step of weights leaves folders in the current one (SDK 2.31), and writes `<key>_<bucket>.hlo`."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    neuronx_cc.compiles(leaves="neuronxcc.private_nkl.7")
    compile_one(name)
    assert list(here.iterdir()) == []
    assert Path.cwd() == here
    (folder,) = map(Path, neuronx_cc.folders)
    assert (folder / "neuronxcc.private_nkl.7").is_dir() and tmp_path / "work 1" in folder.parents


def test_nothing_of_model_builder_is_left_after_a_failure(compile_one, neuronx_cc, monkeypatch, two_ranks):
    """The real one has no `finally`: its ahead-of-time mode would stay on, for the next component to be built in."""
    from neuronx_distributed.parallel_layers import parallel_state

    _, components = two_ranks
    strategy = torch.multiprocessing.get_sharing_strategy()
    monkeypatch.setattr(type(components[TWO_RANKS]), "build", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compile_one(TWO_RANKS)
    assert not parallel_state.get_aot_mode() and not parallel_state.model_parallel_is_initialized()
    assert torch.multiprocessing.get_sharing_strategy() == strategy


@pytest.mark.seconds
def test_another_layout_of_weights_is_made_where_it_is_asked_for(compile_one, monkeypatch):
    """As optimum-neuron 0.4.5 `shard_weights` does it. The emulator has no layouts, and says so."""
    monkeypatch.setenv("NXD_LAYOUT_TRANSFORMATION_OPTIONS", "NXD_LAYOUT_ON_CPU_AND_SERIALIZE")
    with pytest.raises(RuntimeError, match="NXD_LAYOUT_TRANSFORMATION_OPTIONS is not emulated"):
        compile_one(TWO_RANKS)


@pytest.mark.seconds
def test_softmax_and_silu_are_lowered_by_torch_neuronx():
    """It reads the variables when it is imported, so they are set before; the environment of a user has none."""
    program = (
        "from optimum_pixart_neuron.neuron.sdk import ensure_sdk; ensure_sdk();"
        " import torch_neuronx; print(torch_neuronx.lowering.CUSTOM)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in LOWERING}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "('softmax', 'silu')\n", done.stderr


def test_a_process_that_imported_torch_neuronx_before_is_told(monkeypatch, logged):
    import torch_neuronx  # noqa: F401

    monkeypatch.delenv("NEURON_FUSE_SOFTMAX", raising=False)
    ensure_sdk()
    assert "torch_neuronx was imported without NEURON_FUSE_SOFTMAX=1: what this process" in logged.text
    assert os.environ["NEURON_FUSE_SOFTMAX"] == "1"


def test_attention_calls_the_softmax_that_torch_neuronx_replaces(monkeypatch):
    """Its hook is in `torch.nn.functional.softmax`; the method of a tensor goes around it."""
    from optimum_pixart_neuron.components.common.attention import attend

    seen, real = [], torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda *given, **how: seen.append(1) or real(*given, **how))
    attend(*torch.ones(3, 1, 1, 2, 4))
    assert seen == [1]


@pytest.mark.seconds
def test_programs_are_placed_under_the_name_that_the_sdk_has(compile_one, monkeypatch):
    """Its last name, and where there is none that of the beta."""
    import torch_neuronx

    from optimum_pixart_neuron.artifact import loading
    from optimum_pixart_neuron.artifact.compiled import Compiled

    program = compile_one(ONE_RANK) / "model.neuron"
    placed, real = [], torch_neuronx.set_neuron_cores
    homes = (torch_neuronx, torch_neuronx.experimental)
    for home in homes:
        monkeypatch.setattr(
            home, "set_neuron_cores", lambda *given, home=home, **how: placed.append(home) or real(*given, **how)
        )
    loading._load_copy(program, 0, Compiled(inline_weights_to_neff=False))
    monkeypatch.delattr(torch_neuronx, "set_neuron_cores")
    loading._load_copy(program, 0, Compiled(inline_weights_to_neff=False))
    assert placed == list(homes)
