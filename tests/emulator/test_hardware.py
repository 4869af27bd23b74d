"""The instance table."""

import pytest

from optimum_pixart_neuron.hardware import GIB, INSTANCES, get_instance


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
