"""The flags: the host's, all of them, and each refusal once. Nothing here starts an export."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from optimum_pixart_neuron.commands import flags
from optimum_pixart_neuron.commands.arguments import add_arguments, parse
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.parallel.modes import MODES

REQUIRED = ["--model", "some/model", "out"]
OUR_OWN = {
    *("--push_to_hub", "--private", "--allow_emulated"),
    *("--parallel_mode", "--exchange", "--attention", "--no_guidance", "--vae_tile_size", "--with_vae_encoder"),
    *("--revision", "--variant", "--token", "--local_files_only", "--force"),
    *("--components_model", "--transformer", "--text_encoder", "--disable_validation"),
}
# What a PixArt user may leave out although the host has another default, or none.
OTHER_DEFAULTS = {
    "torch_dtype": ("float32", "bfloat16"),
    "tensor_parallel_size": (1, None),
    "batch_size": (None, 1),
    "num_images_per_prompt": (None, 1),
    "sequence_length": (None, 300),
}


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


def test_every_flag_of_the_host_is_ours_with_the_same_meaning(ours, hosts):
    assert set(hosts) <= set(ours)
    for names, theirs in hosts.items():
        own = ours[names]
        assert (own.dest, own.nargs, own.const) == (theirs.dest, theirs.nargs, theirs.const), names
        if names == ("--instance_type",):
            for choice in theirs.choices:
                assert own.type(choice) == choice
            continue
        # `str` is what argparse takes without a type.
        assert (own.type or str, own.required) == (theirs.type or str, theirs.required), names
        assert own.choices is theirs.choices is None or list(own.choices) == list(theirs.choices), names


def test_every_default_that_differs_from_the_hosts_is_listed(ours, hosts):
    different = {
        theirs.dest: (theirs.default, ours[names].default)
        for names, theirs in hosts.items()
        if theirs.default != ours[names].default
    }
    assert different == OTHER_DEFAULTS


def test_no_flag_appears_beside_the_hosts_and_these(ours, hosts):
    assert {name for names in set(ours) - set(hosts) for name in names} == OUR_OWN


def test_help_shows_every_flag_without_importing_torch():
    code = (
        "import sys\n"
        "from optimum_pixart_neuron.commands.export_process import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "loaded = {'torch', 'transformers', 'diffusers', 'optimum.neuron'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    working = (*flags.SOURCE, *flags.HARDWARE, *flags.COMPILER, *flags.SHAPES, *flags.HUB)
    members = (*working, *flags.OPTLEVELS, *flags.REFUSED)
    shown = [name for flag in members if flag.help != argparse.SUPPRESS for name in flag.names]
    assert [name for name in [*shown, "--instance_type"] if f"{name} " not in run.stdout.replace("\n", " ")] == []


@pytest.mark.parametrize("flag", flags.REFUSED, ids=lambda flag: flag.names[0])
def test_flags_of_other_models_are_refused_by_name(flag):
    value = [] if flag.kwargs.get("action") == "store_true" else ["1"]
    with pytest.raises(InvalidExportOption) as refusal:
        parse([*REQUIRED, flag.names[0], *value])
    assert str(refusal.value) == f"{flag.names[0]} has no meaning for PixArt-Sigma: {flag.refused}."


@pytest.mark.parametrize("flag", [flag for flag in flags.REFUSED if "nargs" in flag.kwargs], ids=lambda f: f.names[0])
def test_a_list_flag_without_values_is_refused_too(flag):
    with pytest.raises(InvalidExportOption, match=flag.names[0]):
        parse([*REQUIRED, flag.names[0]])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--task", "image-to-image"], "--task image-to-image: PixArt-Sigma is exported for text-to-image only."),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1."),
        (["--tensor_parallel_size", "-2"], "--tensor_parallel_size -2: must be at least 1."),
        (["--num_cores", "0"], "--tensor_parallel_size 0: must be at least 1."),
        (["--num_images_per_prompt", "0"], "--num_images_per_prompt 0: must be at least 1."),
        (["--height", "0"], "--height 0: must be at least 1."),
        (["--width", "0"], "--width 0: must be at least 1."),
        (["--sequence_length", "0"], "--sequence_length 0: must be at least 1."),
        (["--atol", "-1"], "--atol -1: must be at least 0."),
        (["--private"], "--private says how to push; add --push_to_hub REPO."),
        (["--allow_emulated"], "--allow_emulated says how to push; add --push_to_hub REPO."),
    ],
)
def test_values_that_cannot_be_are_refused(argv, message):
    with pytest.raises(InvalidExportOption) as refusal:
        parse([*REQUIRED, *argv])
    assert str(refusal.value) == message
    assert refusal.value.exit_status == 2


def test_parallel_modes():
    for mode in MODES:
        assert parse([*REQUIRED, "--parallel_mode", mode]).parallel_mode == mode


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--model", "m"], "the following arguments are required: output"),
        (["out"], "the following arguments are required: -m/--model"),
        ([*REQUIRED, "--torch_dtype", "int8"], "argument --torch_dtype: invalid choice: 'int8'"),
        ([*REQUIRED, "--instance_type", "trn9"], "argument --instance_type: unknown instance 'trn9'"),
        ([*REQUIRED, "--batch_size", "two"], "argument --batch_size: invalid int value: 'two'"),
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


@pytest.mark.parametrize("instance", ["trn1", "trn1n", "inf2", "trn2", "trn2.48xlarge", "inf2.8xlarge"])
def test_instances_are_named_by_family_or_in_full(instance):
    assert parse([*REQUIRED, "--instance_type", instance]).instance_type == instance


def test_options_default_to_what_the_flags_default_to():
    assert ExportOptions.from_args(parse(REQUIRED)) == ExportOptions(model="some/model", output=Path("out"))


def test_options_carry_every_flag():
    argv = [
        *["-m", "m", "o", "--task", "text-to-image", "--subfolder", "s", "--revision", "r", "--variant", "fp16"],
        *["--components_model", "c/m", "--transformer", "t/r@v1", "--text_encoder", "t/e/path"],
        *["--token", "t", "--cache_dir", "c", "--local_files_only", "--trust-remote-code", "--num_cores", "1"],
        *["--instance_type", "trn2", "--parallel_mode", "tensor", "--torch_dtype", "float16", "--auto_cast", "all"],
        *["--auto_cast_type", "tf32", "--compiler_workdir", "w", "--inline-weights-neff"],
        *["--disable-validation", "--atol", "0.5", "--disable_neuron_cache", "--with_vae_encoder", "--batch_size"],
        *["2", "--num_images_per_prompt", "3", "--height", "256", "--width", "512", "--sequence_length", "64", "-O3"],
        *["--push_to_hub", "me/repo", "--private", "--allow_emulated"],
    ]
    assert ExportOptions.from_args(parse(argv)) == ExportOptions(
        model="m",
        output=Path("o"),
        subfolder="s",
        components_model="c/m",
        transformer="t/r@v1",
        text_encoder="t/e/path",
        revision="r",
        cache_dir="c",
        token="t",
        local_files_only=True,
        variant="fp16",
        trust_remote_code=True,
        instance_type="trn2",
        torch_dtype="float16",
        tensor_parallel_size=1,
        parallel_mode="tensor",
        batch_size=2,
        num_images_per_prompt=3,
        height=256,
        width=512,
        sequence_length=64,
        auto_cast="all",
        auto_cast_type="tf32",
        optlevel=3,
        compiler_workdir=Path("w"),
        inline_weights_to_neff=True,
        disable_validation=True,
        disable_neuron_cache=True,
        atol=0.5,
        with_vae_encoder=True,
        push_to_hub="me/repo",
        private=True,
        allow_emulated=True,
    )


def test_auto_cast_none_is_no_cast_and_no_level_is_none():
    options = ExportOptions.from_args(parse([*REQUIRED, "--auto_cast", "none"]))
    assert (options.auto_cast, options.optlevel) == (None, None)
