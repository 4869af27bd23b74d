"""Which machines run the programs of a folder, by its manifest or, where there is none, by its `config.json`."""

from dataclasses import replace

import pytest

from optimum_pixart_neuron.artifact.checks import check_artifact, machine_problem
from optimum_pixart_neuron.errors import DeviceError
from optimum_pixart_neuron.hardware import LNC_VARIABLES
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from .conftest import COMPILER, EMULATOR, refused, shard, write_manifest

HARDWARE = replace(EMULATOR, emulated=False)
TRN2 = replace(EMULATOR, instance="trn2.48xlarge")
NOWHERE = NeuronSdk(emulated=False, instance=None)
OF_TRN2 = {"target": "trn2", "lnc": 2}


def compiled_by(version: str) -> dict:
    return {"emulated": False, "versions": {"neuronx-cc": version}}


@pytest.mark.parametrize(
    ("fields", "sdk"),
    [
        ({"target": "inf2"}, EMULATOR),  # of one instruction set with trn1
        ({"target": "trn1n"}, EMULATOR),
        ({}, replace(EMULATOR, instance="trn1.1xlarge")),  # a size that is not known
        (OF_TRN2, TRN2),
        *((compiled_by(older), HARDWARE) for older in ("2.21.33363.0+99999999", "2.20.9999.0", "2.9.1")),
    ],
    ids=str,
)
def test_machines_that_run_it(stock, fields, sdk):
    write_manifest(stock, **fields)
    assert check_artifact(stock, sdk)


OTHER_TARGET = (
    "it is compiled for trn1, and this machine is trn2.48xlarge; load it on trn1, or export it again with"
    " --instance_type trn2"
)
EMULATED = "the emulator made it, and its programs run on no NeuronCore; export it again with the Neuron SDK"
NOT_EMULATED = "it is compiled for NeuronCores, and the emulator cannot run such programs; load it on trn1 with the"
NEWER = f"it is compiled with neuronx-cc {{}}, and {COMPILER}+installed is installed; update the Neuron SDK"


@pytest.mark.parametrize(
    ("fields", "sdk", "expected"),
    [
        (None, TRN2, OTHER_TARGET),
        ({}, TRN2, OTHER_TARGET),
        ({"target": "trn9"}, EMULATOR, "it is compiled for trn9, and this machine is trn1.32xlarge"),
        (None, HARDWARE, EMULATED),
        ({}, HARDWARE, EMULATED),
        (compiled_by(f"{COMPILER}+82129205"), EMULATOR, NOT_EMULATED),
        *(
            (compiled_by(newer), HARDWARE, NEWER.format(newer))
            for newer in ("2.21.33364.0+82129205", "2.22.1.0", "3.0")
        ),
    ],
    ids=str,
)
def test_machines_that_cannot_run_it(stock, fields, sdk, expected):
    if fields is not None:
        write_manifest(stock, **fields)
    assert expected in refused(stock, sdk)


@pytest.mark.parametrize("variable", LNC_VARIABLES)
def test_another_logical_core_config(stock, monkeypatch, variable):
    write_manifest(stock, **OF_TRN2)
    monkeypatch.setenv(variable, "1")
    assert (
        "it is compiled for logical core config (LNC) 2, and this process has 1; set NEURON_LOGICAL_NC_CONFIG=2 before"
        " the first load, or export it again"
    ) in refused(stock, TRN2)


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize(
    ("instance", "variables", "visible"),
    [
        ("trn1.32xlarge", {"NEURON_RT_NUM_CORES": "2"}, "2 are visible (NEURON_RT_NUM_CORES=2)"),
        ("trn1.32xlarge", {"NEURON_RT_VISIBLE_CORES": "1,2-3"}, "3 are visible (NEURON_RT_VISIBLE_CORES=1,2-3)"),
        ("trn1.32xlarge", {"NEURON_RT_VISIBLE_CORES": "31", "NEURON_RT_NUM_CORES": "8"}, "1 are visible (NEURON_RT_V"),
        (
            "inf2.xlarge",
            {},
            "2 are visible (inf2.xlarge); make more visible before the first load, or export it again",
        ),
    ],
    ids=str,
)
def test_more_ranks_than_visible_cores(stock, monkeypatch, described, instance, variables, visible):
    if described:
        write_manifest(stock)
    for variable in variables.items():
        monkeypatch.setenv(*variable)
    assert f"it needs 4 cores, and {visible}" in refused(stock, replace(EMULATOR, instance=instance))


@pytest.mark.parametrize(
    "variable", ["NEURON_RT_NUM_CORES=0", "NEURON_RT_NUM_CORES=4", "NEURON_RT_VISIBLE_CORES=8-11"]
)
def test_enough_visible_cores(exported, monkeypatch, variable):
    monkeypatch.setenv(*variable.split("="))
    assert check_artifact(exported, EMULATOR)


def test_cores_that_lie_on_two_chips_of_trn2_are_no_group(stock, monkeypatch):
    write_manifest(stock, **OF_TRN2)
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "2-5")
    assert (
        "its 4 cores cannot begin at core 2 of trn2.48xlarge (NEURON_RT_VISIBLE_CORES=2-5), in the middle of a chip of"
        " 4; begin at a multiple of 4 before the first load"
    ) in refused(stock, TRN2)
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "60-63")
    assert check_artifact(stock, TRN2)


@pytest.mark.parametrize(
    ("sdk", "variable", "expected"),
    [
        (NOWHERE, "OTHER=1", "loading it needs a machine with NeuronCores"),
        (
            replace(EMULATOR, instance="trn9.48xlarge"),
            "OTHER=1",
            "this machine is an unknown instance 'trn9.48xlarge': known are",
        ),
        (EMULATOR, "NEURON_LOGICAL_NC_CONFIG=2", "NEURON_LOGICAL_NC_CONFIG=2: trn1.32xlarge offers 1"),
        (EMULATOR, "NEURON_RT_VISIBLE_CORES=30-40", "NEURON_RT_VISIBLE_CORES=30-40: .*trn1.32xlarge has cores 0-31"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_machine_itself(exported, monkeypatch, sdk, variable, expected):
    monkeypatch.setenv(*variable.split("="))
    with pytest.raises(DeviceError, match=f"{exported}: {expected}"):
        check_artifact(exported, sdk)
    assert not machine_problem(exported, sdk).startswith(str(exported))


def test_no_device_for_a_configuration_that_says_little(stock):
    (stock / "transformer/config.json").write_text('{"neuron": {"static_batch_size": 1}}')
    with pytest.raises(DeviceError, match="loading it needs a machine with NeuronCores"):
        check_artifact(stock, NOWHERE)


def test_the_machine_is_looked_at_before_the_files(exported):
    (exported / shard(0)).unlink()
    assert "this machine is trn2.3xlarge" in refused(exported, replace(EMULATOR, instance="trn2.3xlarge"))
