"""Compiler flags and environment come from data and leave nothing behind."""

import os

import pytest

from optimum_pixart_neuron.components.registry import COMPONENTS
from optimum_pixart_neuron.components.transformer.spec import TRANSFORMER
from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables


def arguments(component=TRANSFORMER.name, ranks=4, **settings) -> list[str]:
    asked = CompilerSettings(**{"target": "trn1", "lnc": 1, **settings})
    return asked.arguments(COMPONENTS[component].flags, ranks).split()


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("target", ["trn1", "inf2", "trn2"])
def test_every_component_names_target_cast_and_level(component, target):
    flags = arguments(component, target=target, lnc=2 if target == "trn2" else 1)
    assert f"--target={target}" in flags
    assert "--auto-cast=none" in flags
    assert sum(flag.startswith("-O") for flag in flags) == 1
    assert ("--lnc=2" in flags) == (target == "trn2")
    assert sum(flag.startswith("--model-type=") for flag in flags) == 1


def test_the_users_level_is_spelled_so_that_model_builder_sees_it():
    """Contract 2: ModelBuilder appends -O1 unless it finds -O and a digit, and the right-most wins."""
    assert "-O3" in arguments(optlevel=3)
    assert "-O1" not in arguments(optlevel=3)


def test_auto_cast():
    flags = arguments(auto_cast="matmul", auto_cast_type="bf16")
    assert "--auto-cast=matmult" in flags
    assert "--auto-cast-type=bf16" in flags


def test_overlap_of_collectives_only_where_there_are_any():
    assert "ccop-compute-overlap" in " ".join(arguments(ranks=4))
    assert "ccop-compute-overlap" not in " ".join(arguments(ranks=1))


def test_environment_of_four_ranks_on_inf2():
    environment = CompilerSettings(target="inf2", lnc=1).environment(4)
    assert environment["LOCAL_WORLD_SIZE"] == "4"  # contract 3: NxD 0.15 needs it for 4 ranks there
    assert environment["NEURON_PLATFORM_TARGET_OVERRIDE"] == "trn1"
    assert "NEURON_LOGICAL_NC_CONFIG" not in environment


def test_environment_of_trn2_agrees_with_the_flag():
    environment = CompilerSettings(target="trn2", lnc=2).environment(4)
    assert environment["NEURON_LOGICAL_NC_CONFIG"] == environment["NEURON_RT_VIRTUAL_CORE_SIZE"] == "2"
    assert environment["NEURON_PLATFORM_TARGET_OVERRIDE"] == "trn2"


def test_environment_comes_back_after_an_error(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "7")
    monkeypatch.delenv("NEURON_FUSE_SOFTMAX", raising=False)
    before = dict(os.environ)
    with (
        pytest.raises(RuntimeError, match="stop"),
        environment_variables(CompilerSettings(target="trn1", lnc=1).environment(4)),
    ):
        assert os.environ["LOCAL_WORLD_SIZE"] == "4"
        raise RuntimeError("stop")
    assert dict(os.environ) == before


def test_a_folder_of_the_users_in_the_compilers_folder_is_left_alone(tmp_path):
    """ModelBuilder deletes the folder that it is given."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()  # which the exporter of the host imports
    from optimum_pixart_neuron.export.compile import _new_folder

    name = "neuronx-cc-transformer"
    (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / name / "notes").write_text("mine")
    (tmp_path / "work" / f"{name}-2").write_text("mine too")
    made = [_new_folder(tmp_path / "work", name), _new_folder(tmp_path / "work", name)]
    assert [path.name for path in made] == [f"{name}-3", f"{name}-4"] and made[0].is_dir()
    assert (tmp_path / "work" / name / "notes").read_text() == "mine"
