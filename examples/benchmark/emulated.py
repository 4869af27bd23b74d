"""A mode of this project on the emulator: compiled by NxD's ModelBuilder, loaded as optimum-neuron loads it."""

import json
import sys
from pathlib import Path

import torch
from problem import CAPTION_TOKENS, CAPTION_WIDTH, INPUTS, PIXELS_PER_CELL, TRANSFORMER
from safetensors.torch import load_file
from serving import serve

from optimum_pixart_neuron.neuron.sdk import ensure_sdk


def describe(folder: Path, mode: str, dtype: torch.dtype, ranks: int):
    """The transformer's component as `optimum-cli export neuron` describes it, for the guidance pair of one image."""
    from optimum.neuron.utils import DiffusersPretrainedConfig, InputShapesArguments

    from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
    from optimum_pixart_neuron.components.export_config import config_class
    from optimum_pixart_neuron.components.transformer.spec import TRANSFORMER as COMPONENT
    from optimum_pixart_neuron.deployment.options import DeploymentOptions
    from optimum_pixart_neuron.parallel.modes import MODES

    source = json.loads((folder / TRANSFORMER / "config.json").read_text())
    cells = source["sample_size"]
    component = config_class(COMPONENT)(
        DiffusersPretrainedConfig.from_dict(dict(source)),
        task="semantic-segmentation",
        input_shapes=InputShapesArguments(
            batch_size=1,
            sequence_length=CAPTION_TOKENS,
            num_channels=source["in_channels"],
            height=cells,
            width=cells,
            vae_scale_factor=PIXELS_PER_CELL,
            encoder_hidden_size=CAPTION_WIDTH,
        ),
        tensor_parallel_size=ranks,
        int_dtype=torch.int64,
        float_dtype=torch.float32,
    )
    component.source_config = source
    component.source_weights = ComponentWeights.find(folder / TRANSFORMER, COMPONENT.part.weights, None)
    component.weights_dtype = dtype
    component.guided = True
    work = COMPONENT.workload(source, tokens=(cells // source["patch_size"]) ** 2)
    decided = MODES[mode](ranks=ranks, guidance_groups=2).settled(work, DeploymentOptions())
    component.split = decided.split(COMPONENT.plan)
    return component


def main(folder: Path, mode: str, dtype: torch.dtype, ranks: int) -> None:
    ensure_sdk()
    from optimum.neuron.modeling_traced import NeuronTracedModel

    from optimum_pixart_neuron.artifact.compiled import PROGRAM_FILE
    from optimum_pixart_neuron.emulator.runtime import rank_process_ids
    from optimum_pixart_neuron.export.compile import CompileJob, compile_component
    from optimum_pixart_neuron.neuron.compile_cache import CompileCache
    from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables
    from optimum_pixart_neuron.program.program import trace_program

    def load():
        torch.set_grad_enabled(False)
        component = describe(folder, mode, dtype, ranks)
        compiler = CompilerSettings(target="trn1", lnc=1)
        exported = folder / mode
        with environment_variables(compiler.environment(ranks)):
            traffic = trace_program(component.build, component.example_inputs(), ranks).traffic()
            compile_component(
                CompileJob(
                    component=component,
                    compiler=compiler,
                    cache=CompileCache(enabled=False),
                    folder=exported,
                    workdir=folder / f"{mode} work",
                )
            )
        program = NeuronTracedModel.load_model(exported / PROGRAM_FILE, tensor_parallel_size=ranks)
        inputs = load_file(folder / INPUTS)
        arguments = [inputs[spec.name] for spec in component.COMPONENT.inputs]
        return lambda: program(*arguments)[0], {"threads": 1, "collectives": traffic}

    serve(load, pids=rank_process_ids)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]), int(sys.argv[4]))
