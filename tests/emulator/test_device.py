"""The emulated device: visible cores, logical cores, device memory."""

import pytest

from optimum_pixart_neuron.emulator.compiler_flags import CompilerFlags
from optimum_pixart_neuron.emulator.device import current_device
from optimum_pixart_neuron.hardware import GIB


def test_an_environment_that_the_instance_cannot_serve(start_device):
    with pytest.raises(RuntimeError, match="NEURON_LOGICAL_NC_CONFIG=2: trn1.32xlarge offers 1"):
        start_device(NEURON_LOGICAL_NC_CONFIG="2")


def test_the_environment_is_read_once(start_device, monkeypatch):
    first = start_device(NEURON_RT_NUM_CORES="2")
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "8")
    assert current_device() is first
    with pytest.raises(RuntimeError, match="cores 0 to 3 are needed, 2 are visible"):
        first.check_cores(0, 4)


def test_logical_core_config_comes_from_either_variable(start_device):
    assert start_device("trn2.48xlarge").lnc == 2
    assert start_device("trn2.48xlarge", NEURON_RT_VIRTUAL_CORE_SIZE="1").lnc == 1
    both = start_device("trn2.48xlarge", NEURON_RT_VIRTUAL_CORE_SIZE="1", NEURON_LOGICAL_NC_CONFIG="2")
    assert both.lnc == 2 and len(both.visible) == 64


def test_programs_of_another_logical_core_config_or_target_do_not_load(start_device):
    on_trn2, on_inf2 = start_device("trn2.48xlarge"), start_device("inf2.xlarge")
    on_trn2.check_flags(CompilerFlags("trn2", 2))
    on_inf2.check_flags(CompilerFlags("trn1", 1))
    with pytest.raises(RuntimeError, match="compiled with --lnc 1, trn2.48xlarge runs logical core config 2"):
        on_trn2.check_flags(CompilerFlags("trn2", 1))
    with pytest.raises(RuntimeError, match="compiled for trn2 and cannot load on inf2.xlarge"):
        on_inf2.check_flags(CompilerFlags("trn2", 2))
    with pytest.raises(RuntimeError, match="compiled for trn1 and cannot load on trn2.48xlarge"):
        on_trn2.check_flags(CompilerFlags("trn1", 1))


def test_device_memory_is_per_core_and_comes_back(start_device):
    cores = start_device("trn1.2xlarge")
    claim = cores.claim([0, 1], 10 * GIB)
    with pytest.raises(RuntimeError, match=r"core 1: 7.00 GiB needed, 6.00 GiB free of 16.00 GiB"):
        cores.claim([1], 7 * GIB)
    assert cores.used == {0: 10 * GIB, 1: 10 * GIB}
    cores.release(claim)
    cores.claim([1], 16 * GIB)
    assert cores.least_used_core() == 0
