"""Compiler flags and environment of a component, from data.

Flags: neuronx-cc 2.21 reference (SDK 2.26 `compiler/neuronx-cc/api-reference-guide`); the undocumented option strings
are those of optimum-neuron 0.4.5 (`T5EncoderForDiffusersNeuronConfig.get_compiler_args`) and of the AWS sample.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

OVERLAP = "--tensorizer-options='--enable-ccop-compute-overlap --cc-pipeline-tiling-factor=4'"
VERIFY_HLO = "--internal-hlo2tensorizer-options='--verify-hlo=true'"
NO_FUSE_DOT_LOGISTIC = "--internal-hlo2tensorizer-options='--fuse-dot-logistic=false'"
FAST_LOADING = "--enable-fast-loading-neuron-binaries"
TRANSFORMER_MODEL, UNET_MODEL = "--model-type=transformer", "--model-type=unet-inference"


@dataclass(frozen=True, kw_only=True)
class ComponentFlags:
    """The flags of one component.

    Attributes:
        model_type: the flag that says which kind of model it is.
        optlevel: `-O` unless the user chooses one.
        sharded: further flags when it runs on several ranks.
        extra: further flags always.
        by_target: further flags for one compile target.
    """

    model_type: str
    optlevel: int = 1
    sharded: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    by_target: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompilerSettings:
    """What does not depend on the component.

    Attributes:
        target: `--target`: "trn1", "trn2" or "inf2".
        lnc: physical cores per logical core, 1 or 2; only trn2 has a choice.
        auto_cast: "matmul" or "all" to cast float32 operations, None to cast nothing.
        auto_cast_type: what they are cast to.
        optlevel: 1, 2 or 3 for all components, None for each component's own.
    """

    target: str
    lnc: int
    auto_cast: str | None = None
    auto_cast_type: str = "bf16"
    optlevel: int | None = None

    def optlevel_of(self, flags: ComponentFlags) -> int:
        return self.optlevel or flags.optlevel

    def arguments(self, flags: ComponentFlags, ranks: int, *, names_target: bool = True) -> str:
        """The neuronx-cc command line of a component with these flags on `ranks` ranks.

        `torch_neuronx.trace` without a device asks for the target among the flags. ModelBuilder takes it from the
        environment, and its layout step has it from nowhere else (NxD 0.15; optimum-neuron and NxDI leave it out).

        The optimisation level is spelled `-O1`: NxD's ModelBuilder does not know `--optlevel` and appends its own
        `-O1`, and the right-most wins (NxD 0.15 `append_default_compiler_flags`). `--auto-cast` is always there,
        because its default differs between releases.
        """
        arguments = [f"--target={self.target}"] if names_target else []
        arguments += [flags.model_type, f"-O{self.optlevel_of(flags)}"]
        if self.auto_cast is None:
            arguments.append("--auto-cast=none")
        else:
            spelled = {"matmul": "matmult"}.get(self.auto_cast, self.auto_cast)
            arguments += [f"--auto-cast={spelled}", f"--auto-cast-type={self.auto_cast_type}"]
        if self.target == "trn2":
            arguments.append(f"--lnc={self.lnc}")
        if ranks > 1:
            arguments += flags.sharded
        arguments += flags.extra
        arguments += [flag for target, flag in flags.by_target if target == self.target]
        return " ".join(arguments)

    def environment(self, ranks: int) -> dict[str, str]:
        """The environment variables of a compilation on `ranks` ranks.

        `LOCAL_WORLD_SIZE` is read by NxD 0.15 `parallel_state` for 4 ranks on trn1 and inf2. The platform target
        knows only trn1 and trn2 (optimum-neuron 0.4.5 `INSTANCE_VALUE_MAP`).
        """
        environment = {
            "NEURON_PLATFORM_TARGET_OVERRIDE": "trn2" if self.target == "trn2" else "trn1",
            "LOCAL_WORLD_SIZE": str(ranks),
        }
        if self.target == "trn2":
            environment["NEURON_LOGICAL_NC_CONFIG"] = environment["NEURON_RT_VIRTUAL_CORE_SIZE"] = str(self.lnc)
        return environment


@contextmanager
def environment_variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of the block; what was there before comes back, also on errors."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
