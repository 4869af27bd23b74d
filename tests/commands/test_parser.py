"""The flags of an export: the host's, all of them, and what argparse itself refuses. Nothing here starts an export."""

import argparse
import subprocess
import sys

import pytest

from optimum_pixart_neuron.commands.export_neuron import add_arguments, parse
from optimum_pixart_neuron.commands.pixart_validate import COMMAND
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.export.other_models import OF_OTHER_MODELS
from tests.refusals import refusal

REQUIRED = ["--model", "some/model", "out"]
# Field and a value of it; the flag has the field's name.
OUR_OWN = {
    **{"push_to_hub": "me/repo", "private": True, "allow_emulated": True, "programs_from": "me/export"},
    **{"parallel_mode": "tensor", "exchange": "gather", "attention": "math", "no_guidance": True, "guidance": "both"},
    **{"vae_tile_size": 64, "vae_parallel": "one", "with_vae_encoder": True, "sizes": ("256x512", "512x256")},
    **{"revision": "r", "variant": "fp16", "token": "t", "local_files_only": True, "force": True},
    **{"components_model": "c/m", "transformer": "t/r@v1", "text_encoder": "t/e/path", "disable_validation": True},
    **{"steps": 4, "default_steps": 2, "default_timesteps": (900, 400), "default_guidance_scale": 1.0},
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
    assert {name for names in set(ours) - set(hosts) for name in names} == {f"--{field}" for field in OUR_OWN}


@pytest.mark.parametrize(("field", "value"), OUR_OWN.items())
def test_each_of_them_sets_its_field(field, value):
    words = [] if value is True else map(str, value if isinstance(value, tuple) else [value])
    more = ["--push_to_hub", "me/repo"] if field in ("private", "allow_emulated") else []  # which they are of
    assert getattr(parse([*REQUIRED, f"--{field}", *words, *more]), field) == value


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("command", "main", "options"),
    [("export_neuron", "main", tuple(ExportOptions.options())), ("pixart_validate", "COMMAND.main", COMMAND.options)],
)
def test_help_shows_every_flag_without_importing_torch(command, main, options):
    code = (
        "import sys\n"
        f"from optimum_pixart_neuron.commands import {command} as command\n"
        f"try:\n    command.{main}(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "loaded = {'torch', 'transformers', 'diffusers', 'optimum.neuron'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shown = [name for option in options for name in option.flag.switches or option.names]
    text = run.stdout.replace("\n", " ")
    assert [name for name in shown if f"{name} " not in text] == []
    assert [option.flag for option in OF_OTHER_MODELS.values() if f"{option.flag} " in text] == [], (
        "refused, not shown"
    )


@pytest.mark.parametrize("option", OF_OTHER_MODELS.values(), ids=lambda option: option.flag)
def test_flags_of_other_models_are_refused_by_name(option):
    value = [] if option.nargs == 0 else ["1"]
    for words in [value, []] if option.nargs == "*" else [value]:
        said = refusal(InvalidExportOption, parse, [*REQUIRED, option.flag, *words])
        assert said == f"{option.flag} has no meaning for PixArt: {option.reason}"


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
