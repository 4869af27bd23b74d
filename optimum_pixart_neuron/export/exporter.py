"""The export, top to bottom: open, decide, say so, compile each component, put the folder in place."""

import time
from pathlib import Path

import torch

from ..checkpoint import PixArtCheckpoint
from ..sdk import ensure_sdk
from .artifacts import check_output
from .fetch import fetch_weights, open_checkpoint
from .options import ExportOptions
from .settings import ExportSettings, resolve


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
    from .artifacts import copy_unchanged, write_component_config, written_whole
    from .compile import CompileJob, compile_component
    from .compiler import environment_variables
    from .describe import describe_components
    from .hygiene import check_program
    from .program import trace_program

    components = describe_components(checkpoint, settings)
    for component in components:
        component.weights()  # refuses an incomplete checkpoint before the first compilation
    with written_whole(options.output) as folder:
        copy_unchanged(checkpoint, folder)
        for number, component in enumerate(components, start=1):
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
                program = trace_program(component.build, component.example_inputs(), ranks)
                for finding in check_program(program, component.weights_dtype):
                    print(f"    hygiene: {finding}")
                inline = compile_component(job)
            write_component_config(component, program, settings, folder / name, inline)
            print(f"    done in {time.monotonic() - started:.1f} s")
    print(f"saved to {options.output}")
    return options.output
