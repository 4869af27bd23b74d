"""The flags of an export: the host's, all of them, and what argparse itself refuses. Nothing here starts an export."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from optimum_pixart_neuron.commands.export_neuron import add_arguments, parse
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.export.other_models import OF_OTHER_MODELS

REQUIRED = ["--model", "some/model", "out"]
OUR_OWN = {
    *("--push_to_hub", "--private", "--allow_emulated", "--programs_from"),
    *("--parallel_mode", "--exchange", "--attention", "--no_guidance", "--vae_tile_size", "--with_vae_encoder"),
    *("--revision", "--variant", "--token", "--local_files_only", "--force"),
    *("--components_model", "--transformer", "--text_encoder", "--disable_validation", "--vae_parallel"),
    *("--sizes", "--guidance", "--steps", "--default_steps", "--default_timesteps", "--default_guidance_scale"),
}
# What a PixArt user may leave out although the host has another default, or none.
OTHER_DEFAULTS = {
    "torch_dtype": ("float32", "bfloat16"),
    "tensor_parallel_size": (1, None),
    "batch_size": (None, 1),
    "num_images_per_prompt": (None, 1),
    **dict.fromkeys(("lora_model_ids", "lora_weight_names", "lora_adapter_names", "lora_scales"), (None, ())),
}
# Keyword where the host's parser calls its flag otherwise.
KEYWORDS = {"inline_weights_neff": "inline_weights_to_neff"}


def _actions(parser: argparse.ArgumentParser) -> dict[tuple[str, ...], argparse.Action]:
    return {tuple(action.option_strings) or (action.dest,): action for action in parser._actions}


@pytest.fixture(scope="module")
def ours() -> dict[tuple[str, ...], argparse.Action]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return _actions(parser)


@pytest.fixture(scope="module")
def hosts() -> dict[tuple[str, ...], argparse.Action]:
    from optimum.commands.export.neuronx import parse_args_neuronx

    parser = argparse.ArgumentParser()
    parse_args_neuronx(parser)
    return _actions(parser)


def _values(action: argparse.Action) -> list[str]:
    """Words for every kind of value that a flag of the host takes."""
    number = "8" if action.type is int else "0.5" if action.type is float else "word"
    return [] if action.nargs == 0 else [*(action.choices or [number])]


def test_every_flag_of_the_host_is_ours_with_the_same_meaning(ours, hosts):
    """Each takes as many words, and each value of the host's, or is refused by name."""
    assert set(hosts) <= set(ours)
    assert hosts.keys() - {("-h", "--help")} == {names for names in ours if names in hosts} - {("-h", "--help")}
    for names, theirs in hosts.items():
        assert (ours[names].nargs, ours[names].required) in (
            (theirs.nargs, theirs.required),
            (theirs.nargs or 1, False),  # of other models; or demanded by the host on a machine without a device
            (theirs.nargs, False),
        ), names
        if names in (("-h", "--help"), ("output",), ("-m", "--model"), ("--task",)):
            continue
        for value in _values(theirs) or [None]:
            argv = [*REQUIRED, names[-1], *([] if value is None else [value])]
            if names[-1].startswith("--lora_") and theirs.dest != "lora_model_ids":
                argv += ["--lora_model_ids", "a LoRA"]  # which the others are of
            if ours[names].dest in OF_OTHER_MODELS:
                with pytest.raises(InvalidExportOption, match="has no meaning for PixArt"):
                    parse(argv)
            elif value == "float16":
                with pytest.raises(InvalidExportOption, match="T5 overflows in float16"):
                    parse(argv)
            else:
                assert getattr(parse(argv), ours[names].dest) != ours[names].default


def test_every_default_that_differs_from_the_hosts_is_listed(hosts):
    different = {}
    for theirs in hosts.values():
        field = ExportOptions.model_fields.get(KEYWORDS.get(theirs.dest, theirs.dest))
        if field and not field.is_required() and theirs.default != field.default:
            different[theirs.dest] = (theirs.default, field.default)
    # The older name of tensor_parallel_size comes last, and has no default of its own.
    assert different == {**OTHER_DEFAULTS, "tensor_parallel_size": (1, None)}


def test_no_flag_appears_beside_the_hosts_and_these(ours, hosts):
    assert {name for names in set(ours) - set(hosts) for name in names} == OUR_OWN


@pytest.mark.seconds
def test_help_shows_every_flag_without_importing_torch():
    code = (
        "import sys\n"
        "from optimum_pixart_neuron.commands.export_neuron import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "loaded = {'torch', 'transformers', 'diffusers', 'optimum.neuron'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shown = [name for option in ExportOptions.options() for name in option.flag.switches or option.names]
    text = run.stdout.replace("\n", " ")
    assert [name for name in shown if f"{name} " not in text] == []
    assert [option.flag for option in OF_OTHER_MODELS.values() if f"{option.flag} " in text] == [], (
        "refused, not shown"
    )


@pytest.mark.parametrize("option", OF_OTHER_MODELS.values(), ids=lambda option: option.flag)
def test_flags_of_other_models_are_refused_by_name(option):
    value = [] if option.nargs == 0 else ["1"]
    message = f"{option.flag} has no meaning for PixArt: {option.reason}"
    with pytest.raises(InvalidExportOption) as refusal:
        parse([*REQUIRED, option.flag, *value])
    assert str(refusal.value) == message
    if option.nargs == "*":
        with pytest.raises(InvalidExportOption) as refusal:
            parse([*REQUIRED, option.flag])
        assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--model", "m"], "the following arguments are required: output"),
        (["out"], "the following arguments are required: -m/--model"),
        ([*REQUIRED, "-O1", "-O2"], "argument -O2: not allowed with argument -O1"),
        ([*REQUIRED, "--no_such_flag"], "unrecognized arguments: --no_such_flag"),
    ],
)
def test_unreadable_arguments_give_one_line_and_status_2(argv, part, capsys):
    with pytest.raises(SystemExit) as end:
        parse(argv)
    captured = capsys.readouterr()
    assert end.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and captured.err.startswith("optimum-cli export neuron: error: ")
    assert part in captured.err


def test_options_default_to_what_the_flags_default_to():
    assert parse(REQUIRED) == ExportOptions(model="some/model", output="out")


def test_options_carry_every_flag():
    argv = [
        *["-m", "m", "o", "--task", "text-to-image", "--subfolder", "s", "--revision", "r", "--variant", "fp16"],
        *["--components_model", "c/m", "--transformer", "t/r@v1", "--text_encoder", "t/e/path"],
        *["--token", "t", "--cache_dir", "c", "--local_files_only", "--trust-remote-code", "--num_cores", "1"],
        *["--instance_type", "trn2", "--parallel_mode", "tensor", "--torch_dtype", "float32", "--auto_cast", "all"],
        *[
            "--exchange",
            "gather",
            "--attention",
            "math",
            "--no_guidance",
            "--vae_tile_size",
            "64",
            "--force",
            "--vae_parallel",
            "one",
        ],
        *["--auto_cast_type", "tf32", "--compiler_workdir", "w", "--inline-weights-neff"],
        *["--disable-validation", "--atol", "0.5", "--disable_neuron_cache", "--with_vae_encoder", "--batch_size"],
        *["2", "--num_images_per_prompt", "3", "--height", "256", "--width", "512", "--sequence_length", "64", "-O3"],
        *[
            "--push_to_hub",
            "me/repo",
            "--private",
            "--allow_emulated",
            "--lora_model_ids",
            "l",
            "--lora_scales",
            "0.5",
        ],
        *["--programs_from", "me/export"],
        *["--lora_weight_names", "w.safetensors", "--lora_adapter_names", "a", "--steps", "4"],
        *["--default_timesteps", "900", "400", "--default_guidance_scale", "1"],
    ]
    carried = {
        "model": "m",
        "output": Path("o"),
        "task": "text-to-image",
        "subfolder": "s",
        "components_model": "c/m",
        "transformer": "t/r@v1",
        "text_encoder": "t/e/path",
        "revision": "r",
        "cache_dir": Path("c"),
        "token": "t",
        "local_files_only": True,
        "variant": "fp16",
        "trust_remote_code": True,
        "instance_type": "trn2",
        "torch_dtype": "float32",
        "tensor_parallel_size": 1,
        "parallel_mode": "tensor",
        "exchange": "gather",
        "attention": "math",
        "no_guidance": True,
        "vae_tile_size": 64,
        "vae_parallel": "one",
        "force": True,
        "batch_size": 2,
        "num_images_per_prompt": 3,
        "height": 256,
        "width": 512,
        "sequence_length": 64,
        "auto_cast": "all",
        "auto_cast_type": "tf32",
        "optlevel": 3,
        "compiler_workdir": Path("w"),
        "inline_weights_to_neff": True,
        "disable_validation": True,
        "disable_neuron_cache": True,
        "atol": 0.5,
        "with_vae_encoder": True,
        "push_to_hub": "me/repo",
        "programs_from": "me/export",
        "private": True,
        "allow_emulated": True,
        "lora_model_ids": ("l",),
        "lora_weight_names": ("w.safetensors",),
        "lora_adapter_names": ("a",),
        "lora_scales": (0.5,),
        "steps": 4,
        "default_timesteps": (900, 400),
        "default_guidance_scale": 1.0,
    }
    instead = {"sizes": (), "guidance": None, "default_steps": None}  # of height, width, no_guidance and timesteps
    assert {*carried, *instead} == ExportOptions.model_fields.keys()
    assert dict(parse(argv)) == carried | instead
    other = parse([*REQUIRED, "--sizes", "256x512", "512x256", "--guidance", "both"])
    assert (other.sizes, other.guidance) == (("256x512", "512x256"), "both")
