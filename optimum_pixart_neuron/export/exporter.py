"""The export, top to bottom: open, decide, say so, compile each component, put the folder in place."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..checkpoint import PixArtCheckpoint
from ..sdk import ensure_sdk
from .fetch import fetch_weights, open_checkpoint
from .options import ExportOptions
from .output import check_output, copy_unchanged, written_whole
from .settings import ExportSettings, resolve

if TYPE_CHECKING:
    from .components import PixArtComponentConfig
    from .program import TracedProgram


def export(options: ExportOptions) -> Path:
    """Compile every component of a PixArt-Sigma checkpoint into `options.output`.

    Returns:
        the output folder, which `NeuronPixArtSigmaPipeline.from_pretrained` loads.

    Raises:
        PixArtNeuronError: something the user can mend; raised before any weight is read, nothing is left behind.
    """
    check_output(options.output)
    sdk = ensure_sdk()
    checkpoint = open_checkpoint(options)
    settings = resolve(options, checkpoint, sdk)
    _say_choices(options, settings, sdk.emulated)
    fetch_weights(options, checkpoint)
    with torch.no_grad():
        return _compile_all(options, checkpoint, settings, on_device=sdk.has_device and not sdk.emulated)


def _say_choices(options: ExportOptions, settings: ExportSettings, emulated: bool) -> None:
    print(f"PixArt-Sigma export: {options.model} -> {options.output}")
    if emulated:
        print("  SDK         emulator: these artifacts run on no Neuron device")
    for name, value in settings.table():
        print(f"  {name:<11} {value}")
    for note in settings.notes:
        print(f"  note        {note}")


def _compile_all(
    options: ExportOptions, checkpoint: PixArtCheckpoint, settings: ExportSettings, on_device: bool
) -> Path:
    # Imported late: the host's exporter, which these extend, imports the SDK.
    from .compile import CompileJob, compile_component
    from .compiler import environment_variables
    from .component_config import write_component_config
    from .describe import describe_components

    components = describe_components(checkpoint, settings)
    programs = _check_all(components, settings)
    with written_whole(options.output) as folder:
        copy_unchanged(checkpoint, folder)
        for number, (component, program) in enumerate(zip(components, programs), start=1):
            started = time.monotonic()
            name, ranks = component.COMPONENT, component.ranks
            print(f"[{number}/{len(components)}] {name}: {ranks} rank(s), compiling", flush=True)
            job = CompileJob(
                component=component,
                compiler=settings.compiler,
                folder=folder / name,
                compiler_workdir=options.compiler_workdir,
                inline_weights=options.inline_weights_to_neff,
                on_device=on_device,
            )
            with environment_variables(settings.compiler.environment(ranks)):
                inline = compile_component(job)
            write_component_config(component, program, settings, folder / name, inline)
            print(f"    done in {time.monotonic() - started:.1f} s")
    print(f"saved to {options.output}")
    return options.output


def _check_all(components: list["PixArtComponentConfig"], settings: ExportSettings) -> list["TracedProgram"]:
    """Trace every component, and refuse what cannot work before the first, long, compilation.

    Raises:
        CheckpointError: a weight is missing or has another shape.
        InvalidExportOption: the programs do not fit the memory of a core.
    """
    from .compiler import environment_variables
    from .hygiene import check_program
    from .memory import MemoryNeed, check_memory
    from .program import trace_program

    programs, needs = [], []
    for component in components:
        weights = component.weights()
        with environment_variables(settings.compiler.environment(component.ranks)):
            program = trace_program(component.build, component.example_inputs(), component.ranks)
        for finding in check_program(program, component.weights_dtype):
            print(f"  hygiene     {component.COMPONENT}: {finding}")
        programs.append(program)
        needs.append(MemoryNeed.of(component.COMPONENT, program, weights, component.ranks))
    print(f"  memory      {check_memory(needs, settings.instance, settings.compiler.lnc)}", flush=True)
    return programs
