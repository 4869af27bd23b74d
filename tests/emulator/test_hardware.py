"""The instance table, and the cores that a process takes of an instance."""

import pytest

from optimum_pixart_neuron.hardware import GIB, INSTANCES, get_instance, runtime_cores


@pytest.mark.parametrize(
    ("name", "cores", "memory_gib"),
    [("inf2.xlarge", 2, 16), ("inf2.48xlarge", 24, 16), ("trn1.32xlarge", 32, 16), ("trn2.48xlarge", 64, 24)],
)
def test_cores_and_memory_at_default_lnc(name, cores, memory_gib):
    instance = get_instance(name)
    assert instance.logical_cores() == cores
    assert instance.hbm_bytes_per_core() == memory_gib * GIB


def test_trn2_without_logical_cores_shares_each_memory_bank():
    instance = get_instance("trn2.3xlarge")
    assert (instance.logical_cores(1), instance.hbm_bytes_per_core(1)) == (8, 12 * GIB)
    assert instance.bf16_flops_per_core(2) == 2 * instance.bf16_flops_per_core(1)


def test_a_family_is_its_largest_instance():
    for family in ("inf2", "trn1", "trn1n", "trn2"):
        largest = max(each.physical_cores for each in INSTANCES.values() if each.family == family)
        assert get_instance(family).physical_cores == largest
        assert get_instance(family).family == family


def test_unknown_instance_names_the_known_ones():
    with pytest.raises(ValueError, match=r"trn3\.48xlarge.*trn1\.32xlarge"):
        get_instance("trn3.48xlarge")


def test_trn1_has_no_logical_cores():
    with pytest.raises(ValueError, match="trn1.2xlarge cannot run logical core config 2: choose 1"):
        get_instance("trn1.2xlarge").logical_cores(2)


VISIBLE, NUMBER = "NEURON_RT_VISIBLE_CORES", "NEURON_RT_NUM_CORES"


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({}, range(32)),
        ({VISIBLE: "", NUMBER: ""}, range(32)),
        ({NUMBER: "0"}, range(32)),
        ({NUMBER: "4"}, range(4)),
        ({VISIBLE: "5"}, range(5, 6)),
        ({VISIBLE: "0,1,2,3"}, range(4)),  # as Ray writes it
        ({VISIBLE: "2,3-5,6-6,7"}, range(2, 8)),
        ({VISIBLE: "8-15", NUMBER: "2"}, range(8, 16)),
        ({VISIBLE: "8-15", NUMBER: "none"}, range(8, 16)),
    ],
)
def test_visible_cores(environment, visible):
    assert runtime_cores(get_instance("trn1"), environment).visible == visible


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({VISIBLE: "0,2-3"}, "NEURON_RT_VISIBLE_CORES=0,2-3: write a core .* increasing and without gaps"),
        ({VISIBLE: "3-0"}, "increasing"),
        ({VISIBLE: "0-2,2"}, "increasing"),
        ({VISIBLE: "0-"}, "write a core"),
        ({VISIBLE: "0,"}, "write a core"),
        ({VISIBLE: "-1"}, "write a core"),
        ({VISIBLE: "0 ,1"}, "write a core"),
        ({VISIBLE: "\u0661"}, "write a core"),
        ({VISIBLE: "\u00b2"}, "write a core"),
        ({VISIBLE: "all"}, "write a core"),
        ({VISIBLE: "30-40"}, "NEURON_RT_VISIBLE_CORES=30-40: trn1.32xlarge has cores 0-31; change or unset it"),
        ({VISIBLE: "0-999999"}, "trn1.32xlarge has cores 0-31"),
        ({VISIBLE: "0-999999999"}, "write a core"),
        ({VISIBLE: "9" * 100_000}, f"^NEURON_RT_VISIBLE_CORES={'9' * 40}[.]{{3}}: write a core"),
        ({NUMBER: "64"}, "NEURON_RT_NUM_CORES=64: trn1.32xlarge has 32 cores; change or unset it"),
        ({NUMBER: "-1"}, "NEURON_RT_NUM_CORES=-1: write a number of cores, 0 for all 32"),
        ({NUMBER: "1_0"}, "write a number of cores"),
        ({NUMBER: "9" * 100_000}, "write a number of cores"),
    ],
)
def test_cores_that_the_runtime_cannot_take(environment, message):
    with pytest.raises(ValueError, match=message):
        runtime_cores(get_instance("trn1"), environment)


@pytest.mark.parametrize("lnc", [1, 2])
def test_cores_are_counted_as_logical_ones(lnc):
    environment = {"NEURON_RT_VIRTUAL_CORE_SIZE": str(lnc), VISIBLE: "7"}
    trn2 = get_instance("trn2.3xlarge")
    if lnc == 1:
        assert runtime_cores(trn2, environment).visible == range(7, 8)
    else:
        with pytest.raises(ValueError, match="trn2.3xlarge has cores 0-3"):
            runtime_cores(trn2, environment)
