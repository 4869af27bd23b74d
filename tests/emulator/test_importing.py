"""Activation: what becomes importable, what stays hidden, and when it is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimum_pixart_neuron import emulator

PACKAGE_ROOT = Path(emulator.__file__).parents[2]


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *(arguments or ("-c", code))],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


ACTIVATE = "from optimum_pixart_neuron import emulator; emulator.activate()\n"


def test_importing_the_package_imports_no_torch():
    done = run("import sys; import optimum_pixart_neuron.emulator; print('torch' in sys.modules)")
    assert done.stdout == "False\n"


@pytest.mark.seconds
def test_versions_say_emulated_and_sort_after_the_real_compiler_and_the_first_instance_stays():
    done = run(
        ACTIVATE
        + """
import importlib.metadata as m, importlib.util
from packaging.version import parse
import neuronxcc, torch_neuronx, torch_xla
assert m.version("torch-neuronx") == torch_neuronx.__version__ and torch_neuronx.__version__.startswith("2.")
assert m.version("neuronx_distributed").startswith("0.15.")
assert "emulated" in neuronxcc.__version__ and parse(neuronxcc.__version__) > parse("2.21.33363.0")
try:
    m.version("torch_xla")
except m.PackageNotFoundError:
    print("hidden")
emulator.activate(); emulator.activate("trn1.32xlarge")
try:
    emulator.activate("inf2.xlarge")
except RuntimeError as error:
    print(error)
"""
    )
    assert done.stdout.startswith("hidden\n") and "active as trn1.32xlarge" in done.stdout, done.stderr
    assert done.stderr.count("\n") == 1 and "EMULATOR" in done.stderr


@pytest.mark.soak
def test_torch_xla_is_hidden_from_accelerate(tmp_path):
    """accelerate imports torch_xla to find out whether there is an XLA device; a stand-in for it does the same."""
    probe = "try:\n    import torch_xla\n    found = True\nexcept ImportError:\n    found = False\n"
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "__init__.py").write_text(probe)
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    for order in ("import accelerate, torch_xla", "import torch_xla, accelerate"):
        done = run(path + ACTIVATE + order + "\ntorch_xla.sync(); print(accelerate.found)")
        assert done.stdout == "False\n", done.stderr


def test_a_real_sdk_is_not_shadowed(tmp_path):
    (tmp_path / "torch_neuronx.py").write_text("")
    done = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + ACTIVATE)
    assert done.returncode != 0
    assert "refuses to shadow a real SDK: torch_neuronx is installed" in done.stderr


def test_unknown_instance_is_one_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('ran')")
    done = run("", "-m", "optimum_pixart_neuron.emulator", str(script), NEURON_EMULATOR_INSTANCE="trn9.big")
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "trn9.big" in done.stderr and "inf2.xlarge" in done.stderr


@pytest.mark.seconds
def test_runs_a_script_or_module_as_main(tmp_path):
    script = tmp_path / "my script.py"
    script.write_text(
        "import sys, sibling, torch_neuronx\nif __name__ == '__main__':\n    print(sys.argv[1:], sibling.value)\n"
    )
    (tmp_path / "sibling.py").write_text("value = 3")
    done = run("", "-m", "optimum_pixart_neuron.emulator", str(script), "--flag", "a b")
    assert done.stdout == "['--flag', 'a b'] 3\n", done.stderr
    done = run("", "-m", "optimum_pixart_neuron.emulator", "-m", "sibling", PYTHONPATH=f"{tmp_path}:{PACKAGE_ROOT}")
    assert done.returncode == 0, done.stderr


def test_compile_cache_serves_local_directories_only(tmp_path):
    emulator.activate()
    from libneuronxla.neuron_cc_cache import CacheUrl, create_compile_cache

    cache = create_compile_cache(CacheUrl.get_cache_url(cache_dir=str(tmp_path)))
    path = f"{cache.get_cache_dir_with_cache_key('MODULE_1')}/model.neff"
    cache.upload_string_to_file(path, "x")
    assert cache.exists(path) and cache.download_file_to_string(path) == "x"
    assert cache.hlo_acquire_lock(path) and not cache.hlo_acquire_lock(path)
    cache.clear_locks()
    cache.clean()
    assert not cache.exists(path)
    with pytest.raises(ValueError, match="not emulated"):
        CacheUrl("s3://bucket", url_type="s3")
