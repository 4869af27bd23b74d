"""The traps of optimum-neuron 0.4.5 and of NxD 0.15, and the test that fails when we step into one.

`here` is this file; others are named from `tests/`. "not met": why our path cannot get there.

optimum-neuron 0.4.5
 1  T5's padding mask is dropped            e2e/test_parity.py::test_float32_components_through_the_stock_class
 2  timestep cast to the model's dtype      here::test_the_stock_loader_keeps_timesteps_and_the_process,
                                            components/test_parity.py::test_bfloat16_transformer_keeps_the_timestep
 3  guidance pair served by DataParallel    e2e/test_pipeline.py::test_guidance_off,
                                            e2e/test_pipeline.py::test_one_core_takes_any_number_too
 4  sharded transformer becomes a `str`     e2e/test_parity.py::test_float32_pictures [2-ranks] [4-ranks]
 5  text encoder without the sharding size  here::test_every_component_has_weights_for_every_rank
 6  trn2 fails; no --lnc, LNC of 1          here::test_trn2
 7  patched scaled_dot_product_attention    here::test_the_stock_loader_keeps_timesteps_and_the_process
 8  shell=True, `python3`                   here::test_no_name_matters_to_the_command,
                                            commands/test_command.py::test_arguments_reach_the_child_as_they_are
 9  T5 attention computed whole, fp32 sums  here::test_the_text_encoder_reduces_twice_a_layer_in_bfloat16
10  --task auto on a local folder           here::test_no_name_matters_to_the_command
11  cache entry that needs a UNet           e2e/test_python_way.py::test_compiles_and_returns_a_loaded_pipeline
12  None instead of a pipeline off device   runtime/test_loading.py::
                                            test_without_a_device_what_was_compiled_stays_and_is_named
13  float32 by default; false inline record here::test_defaults, here::test_the_record_of_inlined_weights_is_true
14  replace_weights skips most weights      runtime/test_pipeline.py::test_replacing_weights_is_refused
15  compiler_workdir is deleted             export/test_compiler.py::
                                            test_a_folder_of_the_users_in_the_compilers_folder_is_left_alone
16  flags by substring of a path            here::test_no_name_matters_to_the_command
17  validation runs an unloaded T5          not met: the export runs no program
18  binning changes what was compiled       export/test_settings.py::test_a_size_between_the_bins_is_noted,
                                            e2e/test_pipeline.py::test_a_size_that_is_binned_to_the_compiled_one
19  VAE decoder wrapped into float32        here::test_the_vae_is_bfloat16_whatever_force_upcast_says
20  images per prompt, cores, length        e2e/test_pipeline.py::test_three_prompts_two_images_each,
                                            here::test_defaults,
                                            emulator/test_device.py::test_the_environment_is_read_once
21  weights re-read, no variant files       export/test_weight_files.py::test_files_as_save_pretrained_writes_them
22  `do_classifier_free_guidance`           not met: neither diffusers' PixArt pipeline nor ours asks for it

NxD 0.15
 a  missing weights are skipped silently    e2e/test_refusals.py::test_incomplete_and_other_checkpoints
 b  rank_ordering maps cumulatively         not met: no plan orders ranks
 c  preshard hooks stop at the first        here::test_weight_files_are_those_of_nxd
 d  4 ranks on trn1 and inf2                e2e/test_parity.py::test_float32_pictures [4-ranks],
                                            export/test_compiler.py::test_environment_of_four_ranks_on_inf2
 e  padded bias of finfo.min                not met: sizes must divide, export/test_settings.py::test_refusals
 f  padded row layer with a bias            not met: as e
 g  mocked torch.distributed                not met: no name is imported from it
 h  layers outside a parallel state         here::test_the_stock_loader_keeps_timesteps_and_the_process
 i  expert size in another's place          not met: the export asks for no experts
 j  more ranks than tensor ranks            here::test_every_component_has_weights_for_every_rank
    tied weights stored twice               here::test_every_component_has_weights_for_every_rank
    constants of rank 0                     here::test_every_component_has_weights_for_every_rank,
                                            emulator/test_executor.py::
                                            test_a_rank_dependent_python_constant_is_wrong_here_as_on_hardware

What the emulator is as strict about as hardware is, in `tests/emulator/`: shapes and dtypes `test_program.py` and
`test_single_core.py`; DataParallel's chunks `test_data_parallel.py`; missing weights, no initialisation and memory
`test_executor.py`; visible cores, LNC and target `test_device.py` and `test_model_builder.py`; the deleted work folder
`test_model_builder.py`; a real SDK that must not be shadowed `test_importing.py`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ..checkpoints import opened
from ..parity import psnr
from .conftest import PROMPTS, describe, load_stock, neuron_section, picture, pictures
from .test_processes import USER_SCRIPT

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

RANKS = 2
OPTIONS = {"tensor_parallel_size": RANKS, "batch_size": 2, "attention": "nki"}
"""Exported by other tests, too."""


@pytest.fixture(scope="module")
def folder(exported):
    """In bfloat16, as by default."""
    return exported(**OPTIONS)


def rank_weights(folder: Path, component: str) -> list[dict[str, torch.Tensor]]:
    weights = folder / component / "weights"
    return [load_file(weights / f"tp{rank}_sharded_checkpoint.safetensors") for rank in range(RANKS)]


def test_the_table_names_tests_that_exist():
    tests = Path(__file__).parents[1]
    named = re.findall(r"([\w/]+\.py|here)::\s*(test_\w+)", __doc__)
    assert len(named) > 30
    for file, test in named:
        source = Path(__file__) if file == "here" else tests / file
        assert f"def {test}(" in source.read_text(), f"{file}::{test}"


@torch.no_grad()
def test_the_stock_loader_keeps_timesteps_and_the_process(folder):
    """bfloat16 has no 999: cast to it, the first step of every schedule would be step 1000.

    Nothing is patched, and no process group is left behind by an export or a load.
    """
    transformer = load_stock(folder).transformer
    assert torch.nn.functional.scaled_dot_product_attention is torch._C._nn.scaled_dot_product_attention
    assert not torch.distributed.is_initialized()
    assert torch.tensor(999.0).bfloat16() == torch.tensor(1000.0).bfloat16()
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(4, 4, 32, 32, generator=generator),
        "encoder_hidden_states": torch.randn(4, 300, 64, generator=generator),
        "encoder_attention_mask": torch.ones(4, 300, dtype=torch.int64),
    }
    steps = [transformer(**inputs, timestep=torch.full((4,), step), return_dict=False)[0] for step in (999, 1000)]
    assert not torch.equal(*steps)


def test_every_component_has_weights_for_every_rank(folder):
    """The stock loader reads the transformer's number of files for each component, from rank 0 on."""
    for component in ("text_encoder", "transformer"):
        assert neuron_section(folder, component)["tensor_parallel_size"] == RANKS
        names = sorted(path.name for path in (folder / component / "weights").iterdir())
        assert names == [f"tp{rank}_sharded_checkpoint.safetensors" for rank in range(RANKS)]

    ranks = rank_weights(folder, "text_encoder")
    for weights in ranks:
        assert {"shared.weight", "encoder.embed_tokens.weight"} & set(weights) == {"shared.weight"}
    biases = [weights["position_bias.value"] for weights in ranks]
    assert {tuple(bias.shape) for bias in biases} == {(8 // RANKS, 300, 300)}
    assert not any(torch.equal(biases[0], bias) for bias in biases[1:]), "a bias of rank 0 on every rank"


def test_weight_files_are_those_of_nxd(folder, tiny_checkpoint, tmp_path):
    """Our writer streams; ModelBuilder holds all in memory. The files must not tell which of them wrote."""
    from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

    from optimum_pixart_neuron.neuron.compiler import environment_variables

    settings, components = describe(tiny_checkpoint, **OPTIONS)
    for name in ("text_encoder", "transformer"):
        component = components[name]
        builder = ModelBuilder(
            router=None,
            tp_degree=RANKS,
            checkpoint_loader=component.load_checkpoint,
            local_ranks_size=RANKS,
            world_size=RANKS,
            compiler_workdir=str(tmp_path / "work"),
        )
        builder.add(
            key=name,
            model_instance=BaseModelInstance(component.build, input_output_aliases={}),
            example_inputs=[component.example_inputs()],
            compiler_args=settings.compiler.arguments(components[name].COMPONENT.flags, RANKS),
        )
        (tmp_path / name).mkdir()
        with environment_variables(settings.compiler.environment(RANKS)):
            builder.shard_checkpoint(serialize_path=str(tmp_path / name))
        for theirs in sorted((tmp_path / name).iterdir()):
            assert theirs.read_bytes() == (folder / name / "weights" / theirs.name).read_bytes(), theirs.name


def test_the_text_encoder_reduces_twice_a_layer_in_bfloat16(folder):
    """Two layers; 2 x 300 tokens of 64 in bfloat16, sent to and taken from each neighbour of a ring."""
    bytes_sent = 2 * (RANKS - 1) * (2 * 300 * 64 * 2) // RANKS
    collectives = neuron_section(folder, "text_encoder")["parallel"]["collectives"]
    assert collectives == {"all-reduce": {"count": 4, "bytes_sent": 4 * bytes_sent}}


@pytest.mark.soak
def test_trn2(exported, tmp_path, reference):
    """Compiled for trn2 from a machine that is none, loaded by the stock class on one."""
    folder = exported(instance_type="trn2", tensor_parallel_size=4)
    for component in ("text_encoder", "transformer", "vae_decoder"):
        neuron = neuron_section(folder, component)
        assert (neuron["instance_type"], neuron["target"], neuron["lnc"]) == ("trn2", "trn2", 2)
        # The target of several ranks' programs comes from the environment: ModelBuilder's layout step knows no other.
        assert "--target" not in neuron["compiler_args"] and "--lnc=2" in neuron["compiler_args"]
    command = [sys.executable, "-m", "optimum_pixart_neuron.emulator", USER_SCRIPT, "optimum.neuron", folder]
    environment = {**os.environ, "NEURON_EMULATOR_INSTANCE": "trn2.48xlarge"}
    environment.pop("NEURON_PLATFORM_TARGET_OVERRIDE", None)
    subprocess.run([*map(str, command), tmp_path / "x.npy", PROMPTS[0]], env=environment, check=True)
    assert psnr(np.load(tmp_path / "x.npy")[0], picture(reference)) >= 38


@pytest.mark.soak
def test_no_name_matters_to_the_command(folder, tiny_checkpoint, tmp_path):
    """The real command, --task auto, and paths with every word and sign that means something elsewhere."""
    model, output = tmp_path / "sdxlvae unet's transformers; exit 3" / "text_encoder", tmp_path / 'out "vae" $HOME'
    shutil.copytree(tiny_checkpoint, model)
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", model, output]
    command += [*(word for name, value in OPTIONS.items() for word in (f"--{name}", value)), "--task", "auto"]
    subprocess.run([str(word) for word in [*command, "--disable-validation"]], check=True, capture_output=True)
    for component in ("text_encoder", "transformer", "vae_decoder"):
        config, plain = (json.loads((each / component / "config.json").read_text()) for each in (output, folder))
        assert config == plain
    assert np.array_equal(*(pictures(load_stock(each)) for each in (output, folder)))


def test_defaults(folder, tiny_checkpoint):
    settings, components = describe(tiny_checkpoint)
    assert (settings.weights_dtype, settings.sequence_length, settings.ranks) == (torch.bfloat16, 300, 8)
    assert neuron_section(folder, "text_encoder")["static_sequence_length"] == 300
    for component in ("text_encoder", "transformer"):
        assert neuron_section(folder, component)["torch_dtype"] == "bfloat16"
        dtypes = {name: weight.dtype for name, weight in rank_weights(folder, component)[0].items()}
        integers = [name for name, dtype in dtypes.items() if not dtype.is_floating_point]
        assert {dtype for name, dtype in dtypes.items() if name not in integers} == {torch.bfloat16}
    assert set(components) == {"text_encoder", "transformer", "vae_decoder"}


@pytest.mark.soak
def test_the_record_of_inlined_weights_is_true(exported, reference):
    """With a wrong record the stock loader moves weights that are not there, or leaves them on the host."""
    inlined = exported(tensor_parallel_size=1, inline_weights_to_neff=True)
    record = {name: neuron_section(inlined, name)["inline_weights_to_neff"] for name in ("transformer", "vae_decoder")}
    assert record == {"transformer": True, "vae_decoder": True}
    assert neuron_section(inlined, "text_encoder")["inline_weights_to_neff"] is False, "NxD keeps weights apart"
    assert psnr(picture(load_stock(inlined)), picture(reference)) >= 38


def test_the_vae_is_bfloat16_whatever_force_upcast_says(tiny_checkpoint):
    assert opened(tiny_checkpoint).config("vae")["force_upcast"] is True
    _, components = describe(tiny_checkpoint)
    dtypes = {weight.dtype for weight in components["vae_decoder"].weights().values()}
    assert dtypes == {torch.bfloat16, torch.int32}  # the number of a rank, as of every band of rows
