"""The emulator as another release of the SDK: its versions, the flags it knows, and what its compiler refuses."""

import importlib.metadata

import pytest
import torch

from optimum_pixart_neuron.emulator import release
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.hardware.sdk_releases import SDK_RELEASES, get_release, release_of, same_minor
from tests.emulator.programs import Calls

ARGUMENTS = "--target=trn1 --auto-cast=none"
INTEGERS = torch.zeros(4, 4, dtype=torch.int64)


def compiled(function, arguments: str = ARGUMENTS) -> Program:
    return Program.compile(Calls(function), (INTEGERS,), compiler_args=arguments)


@pytest.fixture(params=SDK_RELEASES)
def chosen(request, monkeypatch):
    monkeypatch.setenv(release.RELEASE_VARIABLE, request.param)
    return get_release(request.param)


def test_versions_are_those_of_the_release_and_say_emulated(chosen):
    found = {name: importlib.metadata.version(name) for name in release.distributions()}
    assert found == {name: f"{version}+emulated" for name, version in chosen.versions.items() if name != "torch"}
    assert release_of(found) is chosen


def test_what_each_compiler_refuses(chosen):
    """64-bit products, powers and scatters where the release announces it, no comparisons; its flag is there only."""
    compiled(lambda x: (x != 0).float())
    late = chosen.name == "2.33"
    programs = (lambda x: x @ x, lambda x: x.pow(2), lambda x: x.scatter(0, x, 1))
    for function in programs:
        if late:
            with pytest.raises(RuntimeError, match=r"SDK 2\.33\): aten.* on 64-bit integers .* is not supported"):
                compiled(function)
        else:
            compiled(function)
    if late:
        compiled(programs[0], f"{ARGUMENTS} --native-int64")
    else:
        with pytest.raises(RuntimeError, match="unrecognized arguments: --native-int64"):
            compiled(programs[0], f"{ARGUMENTS} --native-int64")


def test_an_unknown_release_is_refused_by_name(monkeypatch):
    monkeypatch.setenv(release.RELEASE_VARIABLE, "2.99")
    with pytest.raises(ValueError, match="NEURON_EMULATOR_SDK: unknown SDK release '2.99': known are 2.26.1, 2"):
        release.emulated_release()


def test_the_table():
    for each in SDK_RELEASES.values():
        assert release_of(each.versions) is each, "a compiler of one release is told from those of the others"
        assert same_minor(each.versions["torch"], each.versions["torch-neuronx"]), "which is built for that torch"
    assert release_of({}) is None and release_of({"neuronx-cc": "1.0"}) is None
