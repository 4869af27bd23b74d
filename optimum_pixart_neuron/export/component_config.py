"""The `config.json` of each compiled component: the checkpoint's, and what the stock loader and ours need to know."""

import json
from functools import partial
from types import SimpleNamespace
from typing import Any

from optimum.neuron.utils import store_compilation_config
from optimum.neuron.utils.version_utils import get_neuronxcc_version

from ..artifact.compiled import CONFIG_FILE, Compiled, CompiledProgram, Parallel
from ..components.common.attention_kernel import WRITTEN_OUT
from ..components.export_config import ExportConfig
from ..deployment.deployment import Deployment
from ..program.program import TracedProgram
from .compile import CompileJob


def write_component_config(job: CompileJob, deployment: Deployment) -> None:
    """Write the component's `config.json`: the checkpoint's, with the `neuron` section the stock loader reads.

    That is of the first program, which alone the stock loader knows; its `programs` lists all of several.

    Ours in that section: `torch_dtype` of weights and matmuls, `target`, `lnc`, `compiler_args`, `parallel` with the
    split and the collectives of one run, counted from the traced program, and `attention` where
    a kernel may compute it.
    """
    component, compiler, program = job.component, job.compiler, job.traced[0]
    holder = SimpleNamespace(model_type=component.source_config.get("model_type"))
    store_compilation_config(
        holder,
        input_shapes=component.input_shapes,
        compiler_kwargs={
            "auto_cast": compiler.auto_cast,
            "auto_cast_type": compiler.auto_cast_type if compiler.auto_cast else None,
            "instance_type": deployment.instance.family,
        },
        int_dtype=component.int_dtype,
        float_dtype=component.float_dtype,
        dynamic_batch_size=component.dynamic_batch,
        compiler_type="neuronx-cc",
        compiler_version=get_neuronxcc_version(),
        inline_weights_to_neff=job.inline,
        optlevel=str(compiler.optlevel_of(component.COMPONENT.flags)),
        tensor_parallel_size=deployment.ranks,
        model_type=component.MODEL_TYPE,
        task=component.task,
    )
    ours: dict[str, Any] = {
        "model_type": component.MODEL_TYPE,
        "torch_dtype": str(component.weights_dtype).removeprefix("torch."),
        "target": compiler.target,
        "lnc": compiler.lnc,
        "compiler_args": job.arguments,
        "parallel": Parallel(
            mode=deployment.mode_of(component.COMPONENT).name,
            ranks=component.ranks,
            guided=component.guided,
            collectives=program.traffic(),
            **(component.split.describe() if component.split else {}),
        ),
    }
    if component.others:
        ours["programs"] = tuple(map(partial(_describe, job), component.programs, job.traced))
    if component.COMPONENT.has_kernel:
        ours["attention"] = {
            "kernel": deployment.attention_kernel or WRITTEN_OUT,
            "masked_kernel": deployment.masked_kernel or WRITTEN_OUT,
        }
    config = Compiled(**{**holder.neuron, **ours}).into(
        {"model_type": component.MODEL_TYPE, **component.source_config}
    )
    component.COMPONENT.finish_config(config)
    (job.folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def _describe(job: CompileJob, config: ExportConfig, program: TracedProgram) -> CompiledProgram:
    axes = {axis for given in config.COMPONENT.inputs for axis in given.axes if isinstance(axis, str)}
    height, width = config.size
    return CompiledProgram(
        name=config.program_name,
        file=job.program_file(config),
        height=height,
        width=width,
        guided=config.guided,
        axes={axis: config.input_shapes[axis] for axis in sorted(axes)},
        collectives=program.traffic(),
        **(config.split.describe() if config.split else {}),
    )
