"""Options as data: each value is right, coerced or refused alike from Python and command line; one field is all."""

from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import Field

from optimum_pixart_neuron.commands.export_neuron import parse
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.options import Flag, Options, manual_table

from .refusals import refusal


def of_python(options_class=ExportOptions, **given) -> ExportOptions:
    return options_class(**{"model": "m", "output": "out", **given})


def of_command_line(*words: str, options_class=ExportOptions) -> ExportOptions:
    return parse(["--model", "m", "out", *words], options_class)


def refusals(*words: str, options_class=ExportOptions, **given) -> set[str]:
    """What the command line and Python say of the same: one line."""
    return {
        refusal(InvalidExportOption, of_command_line, *words, options_class=options_class),
        refusal(InvalidExportOption, of_python, options_class, **given),
    }


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--height", "0", "must be at least 1"),
        ("--width", "x", "must be a whole number"),
        ("--sequence_length", "2.5", "must be a whole number"),
        ("--num_images_per_prompt", "1000001", "must be at most 1000000"),
        ("--vae_tile_size", "", "must be a whole number"),
        ("--atol", "-1", "must be at least 0"),
        ("--atol", "nan", "must be a finite number"),
        ("--parallel_mode", "sideways", "choose context, tensor or data"),
        ("--attention", "flash", "choose auto, nki or math"),
        ("--torch_dtype", "int8", "choose bfloat16 or float32"),
        ("--torch_dtype", "float16", "T5 overflows in float16; choose bfloat16 or float32"),
        ("--auto_cast", "everything", "choose none, matmul or all"),
        ("--task", "image-to-image", "PixArt is exported for text-to-image only"),
    ],
)
def test_a_value_is_refused_with_the_same_words_from_both_sides(flag, value, reason):
    assert refusals(flag, value, **{flag.removeprefix("--"): value}) == {f"{flag} {value or repr('')}: {reason}"}


@pytest.mark.parametrize("name", ["private", "allow_emulated"])
def test_how_to_push_says_nothing_without_a_repository(name):
    assert refusals(f"--{name}", **{name: True}) == {f"--{name} says how to push; add --push_to_hub REPO"}


def test_an_unknown_instance_names_the_known_ones():
    (message,) = refusals("--instance_type", "trn9", instance_type="trn9")
    assert message.startswith("--instance_type trn9: unknown instance 'trn9': known are")


@pytest.mark.parametrize("instance", ["trn1", "trn1n", "inf2", "trn2", "trn2.48xlarge", "inf2.8xlarge"])
def test_instances_are_named_by_family_or_in_full(instance):
    assert of_command_line("--instance_type", instance).instance_type == instance


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": True}, "--height True: this option takes no truth value"),
        ({"revision": 3}, "--revision 3: must be text"),
        ({"no_guidance": "perhaps"}, "--no_guidance perhaps: must be True or False"),
        ({"optlevel": 7}, "-O 7: choose 1, 2 or 3"),
        ({"torch_dtype": torch.int8}, "--torch_dtype torch.int8: choose bfloat16 or float32"),
        ({"parallel_mode": "a\nb"}, r"--parallel_mode a\nb: choose context, tensor or data"),
        ({"output": "~nobody-of-this-name/x"}, "output ~nobody-of-this-name/x: Could not determine home directory."),
        ({"output": None}, "output is required"),
        ({"heigth": 1}, "there is no option heigth; did you mean height?"),
        ({"xyzzy": 1, "plugh": 1}, "there is no option xyzzy, plugh"),
        (
            {"dynamic_batch_size": True},
            "--dynamic-batch-size has no meaning for PixArt: a sharded program has one batch size; requests of"
            " any size run in chunks of --batch_size",
        ),
    ],
)
def test_what_only_python_can_give_is_refused_in_one_line(given, message):
    assert refusal(InvalidExportOption, of_python, **given) == message


def test_a_long_value_is_cut():
    assert len(refusal(InvalidExportOption, of_python, torch_dtype="x" * 10_000)) < 200


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"height": "256", "tensor_parallel_size": "2"}, {"height": 256, "tensor_parallel_size": 2}),
        (
            {"compiler_workdir": "d", "cache_dir": "~/c"},
            {"compiler_workdir": Path("d"), "cache_dir": Path.home() / "c"},
        ),
        ({"model": Path("a/b"), "transformer": Path("c")}, {"model": "a/b", "transformer": "c"}),
        ({"subfolder": None, "torch_dtype": None}, {"subfolder": "", "torch_dtype": "bfloat16"}),
        ({"torch_dtype": torch.float32}, {"torch_dtype": "float32"}),
        ({"optlevel": "2", "auto_cast": "none"}, {"optlevel": 2, "auto_cast": None}),
        ({"task": "text-to-image"}, {"task": "text-to-image"}),
        ({"token": True}, {"token": True}),
        ({"dynamic_batch_size": False, "lora_scales": None}, {}),
    ],
    ids=str,
)
def test_the_forms_of_the_host_and_of_paths_are_taken(given, taken):
    options = of_python(**given)
    assert {name: getattr(options, name) for name in taken} == taken


def test_a_changed_copy_is_checked_too():
    options = of_python(height=256)
    assert options.changed(width=512) == of_python(height=256, width=512)
    with pytest.raises(InvalidExportOption, match="--width 0: must be at least 1"):
        options.changed(width=0)


def test_a_token_is_not_shown():
    assert "secret" not in repr(of_python(token="secret"))


def test_the_manifest_tells_neither_places_nor_secrets():
    assert {name for name in ExportOptions.model_fields if name not in of_python().recorded()} == {
        *("model", "output", "force", "token", "cache_dir", "local_files_only", "compiler_workdir", "task"),
        *("push_to_hub", "private", "allow_emulated", "programs_from"),
        *("lora_model_ids", "lora_weight_names", "lora_adapter_names", "lora_scales"),
    }


class SharperOptions(ExportOptions):
    """The export's options and one more: all that an option takes."""

    sharpness: Annotated[int, Field(ge=1, le=9), Flag(group="Compilation")] = Field(
        5, description="How sharp it draws."
    )


def test_one_field_is_in_the_help_the_api_the_refusals_the_record_and_the_manual(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"], SharperOptions)
    assert "How sharp it draws (default: 5)." in " ".join(capsys.readouterr().out.split())
    by_words = of_command_line("--sharpness", "7", options_class=SharperOptions)
    assert by_words == of_python(SharperOptions, sharpness=7) == of_python(SharperOptions, sharpness="7")
    refused = refusals("--sharpness", "10", options_class=SharperOptions, sharpness=10)
    assert refused == {"--sharpness 10: must be at most 9"}
    assert by_words.recorded()["sharpness"] == 7
    row = "| `--sharpness` | `sharpness` | whole number, at least 1, at most 9 | How sharp it draws (default: 5). |"
    assert row in manual_table(SharperOptions).splitlines()


def test_a_default_that_the_description_tells_is_told_once():
    class Told(Options):
        kinds: tuple[str, ...] = Field(("all",), description="Kinds; default: all, a row each.")

    assert [option.help for option in Told.options()] == ["Kinds; default: all, a row each."]
