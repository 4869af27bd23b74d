"""The neuronx-cc flags that decide whether a program compiles and where it loads.

Source: neuronx-cc API reference (`compiler/neuronx-cc/api-reference-guide/index.rst`). Flags the reference does not
list are accepted unread: the compiler has many undocumented ones.
"""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..hardware.sdk_releases import LATE_FLAGS
from .release import emulated_release

_CHOICES = {
    "--target": ("inf2", "trn1", "trn1n", "trn2"),
    "--model-type": ("generic", "transformer", "unet-inference"),
    "--auto-cast": ("none", "matmult", "all"),
    "--auto-cast-type": ("bf16", "fp16", "tf32", "fp8_e4m3"),
    "--optlevel": ("1", "2", "3"),
    "--logical-nc-config": ("1", "2"),
}
_ALIASES = {"-lnc": "--logical-nc-config", "--lnc": "--logical-nc-config", "-O": "--optlevel"}


@dataclass(frozen=True)
class CompilerFlags:
    """`target` as given or defaulted; `lnc` physical cores per logical core."""

    target: str
    lnc: int

    @property
    def target_class(self) -> str:
        """inf2, trn1 and trn1n share one instruction set (NeuronCore-v2); trn2 has its own."""
        return target_class(self.target)


def target_class(target: str) -> str:
    return "trn2" if target == "trn2" else "trn1"


def parse_flags(compiler_args: str | list[str] | None, default_target: str | None) -> CompilerFlags:
    """Read target and logical core config; the right-most of two equal flags wins.

    Raises:
        RuntimeError: see `split_flags`; a flag that the emulated release does not know, a documented one with a value
            outside its choices, `--lnc 2` meets a target without logical cores (NCC_EARG001), or there is neither
            `--target` nor a default.
    """
    tokens = split_flags(compiler_args)
    values: dict[str, str] = {}
    for position, token in enumerate(tokens):
        flag, separator, value = token.partition("=")
        match = re.fullmatch(r"-O(\d)", token)
        if match:
            flag, separator, value = "--optlevel", "=", match[1]
        flag = _ALIASES.get(flag, flag)
        if flag in LATE_FLAGS and flag not in emulated_release().flags:
            raise RuntimeError(
                f"neuronx-cc (emulated, SDK {emulated_release().name}): error: unrecognized arguments: {flag}"
            )
        if flag not in _CHOICES:
            continue
        if not separator:
            value = tokens[position + 1] if position + 1 < len(tokens) else ""
        if value not in _CHOICES[flag]:
            choices = ", ".join(_CHOICES[flag])
            raise RuntimeError(f"neuronx-cc (emulated) [NCC_EARG001] {flag} {value!r}: choose one of {choices}")
        values[flag] = value
    target = values.get("--target", default_target)
    if target is None:
        raise RuntimeError("no compile target: add --target to compiler_args or set NEURON_PLATFORM_TARGET_OVERRIDE")
    lnc = int(values.get("--logical-nc-config", "2" if target == "trn2" else "1"))
    if lnc == 2 and target != "trn2":
        raise RuntimeError(f"neuronx-cc (emulated) [NCC_EARG001] --lnc 2 is for --target trn2, not {target}: drop it")
    return CompilerFlags(target=target, lnc=lnc)


def split_flags(compiler_args: str | Sequence[str] | None) -> list[str]:
    """The words of a command line, split as a shell splits it, which is how libneuronxla and torch_neuronx do it.

    Raises:
        RuntimeError: a word belongs to no flag, as the rest of a path with a space does, or a quote does not end.
    """
    try:
        words = shlex.split(compiler_args) if isinstance(compiler_args, str) else list(compiler_args or [])
    except ValueError as error:
        raise RuntimeError(f"neuronx-cc (emulated) [NCC_EARG001] {compiler_args}: {error}") from None
    for before, word in zip(["", *words], words):
        if not word.startswith("-") and (not before.startswith("-") or "=" in before):
            raise RuntimeError(f"neuronx-cc (emulated) [NCC_EARG001] unrecognized arguments: {word}")
    return words


def platform_target() -> str | None:
    """The target the process would compile for without `--target`; None when nothing says."""
    return os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or None
