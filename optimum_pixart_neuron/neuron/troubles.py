"""What compiler and runtime say when they fail, what it means and what to do: one table, for errors and manual.

Sources are files of the repository aws-neuron-sdk, and issues. The remedies follow from the causes; none of them has
been tried on Neuron here.
"""

import re
from dataclasses import dataclass

from ..errors import one_line

_LONGEST_LINE = 400  # characters of a line of somebody else's log


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """One kind of failure.

    Attributes:
        says: a regular expression that finds it in a message or a log.
        shown: the message, as the manual shows it.
        cause: in a few words, as the middle of a sentence.
        remedy: what to do.
        source: where it is documented or was reported.
        line: a regular expression of the line to quote, where that is another one than `says` finds.
    """

    says: str
    shown: str
    cause: str
    remedy: str
    source: str
    line: str = ""

    @property
    def advice(self) -> str:
        """Cause and remedy, to stand behind a message."""
        return f"{self.cause}: {self.remedy}"


COMPILER_TROUBLES = (
    _Trouble(
        says=r"XTP00[23]|NCC_EXTP00\d|NCC_EBVF030|[Nn]umber of instructions .*(over the threshold|exceeds the limit)",
        shown="`Number of instructions (…) is over the threshold (5000000)` (XTP002, XTP003); `The number of"
        " instructions generated exceeds the limit.` (NCC_EXTP004, NCC_EBVF030)",
        cause="one core's program is too large",
        remedy="take a larger --tensor_parallel_size, --batch_size 1, for the VAE --vae_tile_size 512",
        source="`compiler/error-codes/EXTP004.rst`, `EBVF030.rst`; aws-neuron-sdk #819, #987, #1003, where -O1 alone"
        " did not help",
    ),
    _Trouble(
        says=r"NCC_EOOM00\d|high-bandwidth memory limit",
        shown="`The combined memory needed for the model tensors exceeds the high-bandwidth memory limit.`"
        " (NCC_EOOM001, NCC_EOOM002)",
        cause="tensors, scratch space and spills of one program exceed the core's memory",
        remedy="take --torch_dtype bfloat16, a larger --tensor_parallel_size, or a smaller batch, size or"
        " --vae_tile_size",
        source="`compiler/error-codes/EOOM001.rst`, `EOOM002.rst`",
    ),
    _Trouble(
        says=r"failed with -9|exit status -9|SIGKILL|F137|\bKilled\b|[Ff]orcibly killed",
        shown="`neuronx-cc failed with -9`; `[F137] neuronx-cc was forcibly killed`",
        cause="the system killed the compiler, so this machine's memory was full",
        remedy="compile on one with more memory, naming the target with --instance_type; the same command keeps what"
        " was finished",
        source="aws-neuron-sdk #706, aws-neuron-samples #10",
    ),
    _Trouble(
        says=r"maximum protobuf size of 2GB",
        shown="`HloModuleProto exceeds maximum protobuf size of 2GB`",
        cause="weights or large constants are inside the program",
        remedy="leave out --inline-weights-neff, and take --torch_dtype bfloat16",
        source="aws-neuron-sdk #987",
    ),
    _Trouble(
        says=r"NCC_EARG001|unsupported Logical Neuron Core",
        shown="NCC_EARG001, unsupported Logical Neuron Core configuration",
        cause="the target has no such logical cores",
        remedy="name the machine that will run it with --instance_type: --lnc is passed for trn2 only",
        source="`compiler/error-codes/EARG001.rst`",
    ),
    _Trouble(
        says=r"[Nn]o space left on device|Disk quota exceeded",
        shown="`No space left on device`, in the compiler's log",
        cause="the disk of the compiler's files is full",
        remedy="free it, or name another place with --compiler_workdir or TMPDIR",
        source="errno ENOSPC of the system",
    ),
    _Trouble(
        says=r"error while loading shared libraries|undefined symbol",
        shown="`error while loading shared libraries: …`, `undefined symbol: …`",
        cause="the compiler's installation is not whole",
        remedy="install the library that it names, or the Neuron SDK anew; `optimum-cli neuron pixart-doctor` lists"
        " the versions",
        source="optimum-neuron #698, aws-neuron-sdk #328",
    ),
    _Trouble(
        says=r"neuronx-cc['\"]?: (command )?not found|No such file or directory: '?neuronx-cc"
        r"|neuronx-cc is not installed",
        shown="`neuronx-cc is not installed`; `No such file or directory: 'neuronx-cc'`",
        cause="the compiler is not on PATH",
        remedy="activate the environment that has the Neuron SDK; `optimum-cli neuron pixart-doctor` lists the"
        " versions",
        source="torch-neuronx, `xla_impl/hlo_conversion.py`",
    ),
    _Trouble(
        says=r"[Uu]nrecognized argument|unknown (option|argument)|[Nn]o such option",
        shown="`unrecognized arguments: …`",
        cause="this release of the compiler does not know a flag",
        remedy="install the release of the Neuron SDK that the installed optimum-neuron names, see SDK releases",
        source="neuronx-cc's argument parser",
    ),
    _Trouble(
        says=r"[Ii]nternal [Cc]ompiler [Ee]rror|F134|terminated abnormally|NCC_I[A-Z]+\d+",
        shown="`An Internal Compiler Error has occurred`; `[F134] neuronx-cc terminated abnormally`; NCC_I…",
        cause="the compiler has a fault that this program meets",
        remedy="leave out -O2, -O3, --auto_cast and --with_vae_encoder, try --attention math or another"
        " --tensor_parallel_size, and report it to aws-neuron-sdk with the log",
        source="aws-neuron-sdk #716, #723, #730, #747 (encoders of VAEs), #1000",
        line=r"Error message:\s*\S",
    ),
)
"""Failures of a compilation, the more exact ones first."""

RUNTIME_TROUBLES = (
    _Trouble(
        says=r"NeuronCore\(s\) not available|nrt_allocate_neuron_cores|Logical Neuron Core\(s\) not available",
        shown="`NeuronCore(s) not available - Requested:… Available:…` (nrt_allocate_neuron_cores)",
        cause="another process, often a notebook's kernel, holds the cores until it ends",
        remedy="end it (`optimum-cli neuron pixart-doctor` names it), or give each its own NEURON_RT_VISIBLE_CORES;"
        " export and load in separate processes",
        source="`neuron-runtime/nrt-troubleshoot.rst`; aws-neuron-samples #44",
    ),
    _Trouble(
        says=r"runtime cannot be initialized|cannot determine the number of available NeuronCores|NRT_UNINITIALIZED"
        r"|[Dd]river (is )?not (loaded|found)|nrt_init.{0,40}fail",
        shown="`Neuron runtime cannot be initialized; cannot determine the number of available NeuronCores`",
        cause="the driver is not there, or another process holds the cores",
        remedy="ask `optimum-cli neuron pixart-doctor`; install or load the driver (aws-neuronx-dkms), in a container"
        " pass it /dev/neuron*",
        source="`neuron-runtime/nrt-troubleshoot.rst`; aws-neuron-samples #44",
    ),
    _Trouble(
        says=r"Unsupported topology|Supported number of Neuron Cores",
        shown="`Unsupported topology. Supported number of Neuron Cores is 1, 2, 8, 16 or a multiple of 32.`"
        " (nrt_load_collectives)",
        cause="this instance cannot connect that number of ranks",
        remedy="export with --tensor_parallel_size 2, 8, 16 or 32 on trn1; the runtime from 2.23 on takes 4 adjacent"
        " cores",
        source="optimum-neuron #619; `release-notes/components/runtime.rst`",
    ),
    _Trouble(
        says=r"Failed to alloc DEVICE memory|NRT_RESOURCE|dmem_alloc|out of device memory",
        shown="`Failed to alloc DEVICE memory: …` (dmem_alloc_internal); `Failure: NRT_RESOURCE in nrt_load()`",
        cause="the memory of the device is full",
        remedy="end what else runs on these cores, or export with a larger --tensor_parallel_size; compare with the"
        " `memory` line of the export",
        source="aws-neuron-sdk #1014, optimum-neuron #668",
    ),
    _Trouble(
        says=r"[Ii]ncompatible NEFF|[Uu]nsupported NEFF|NRT_UNSUPPORTED_NEFF_VERSION",
        shown="`NRT_UNSUPPORTED_NEFF_VERSION`, `incompatible NEFF`",
        cause="the runtime or the driver is older than the compiler",
        remedy="update aws-neuronx-runtime-lib and aws-neuronx-dkms, or export with the installed SDK",
        source="`neuron-runtime/nrt-troubleshoot.rst`",
    ),
    _Trouble(
        says=r"NRT_TIMEOUT|NRT_EXEC_HW_ERR|NRT_EXEC_BAD|hardware error|NERR_|numerical error",
        shown="`NRT_TIMEOUT`, `NRT_EXEC_HW_ERR_…`",
        cause="the device did not finish the program",
        remedy="load the pipeline again in a new process; if it comes again, restart the instance and report it with"
        " `dmesg`",
        source="`neuron-runtime/api/nrt.rst`, status codes; `neuron-runtime/nrt-troubleshoot.rst`",
    ),
    _Trouble(
        says=r"NRT_INVALID|NRT_INVALID_HANDLE",
        shown="`NRT_INVALID`",
        cause="the program got inputs that it was not compiled for, or its cores were taken from it",
        remedy="call it through this package's pipeline, and load it in the process that uses it",
        source="`neuron-runtime/api/nrt.rst`, status codes",
    ),
)
"""Failures of loading or running a program, the more exact ones first."""


def find_trouble(text: str, table: tuple[_Trouble, ...]) -> _Trouble | None:
    """The first kind of failure of a table that a text speaks of."""
    return next((trouble for trouble in table if re.search(trouble.says, text)), None)


def device_reason(error: BaseException) -> str:
    """What the runtime said in one line, and cause and remedy where they are known."""
    trouble = find_trouble(str(error), RUNTIME_TROUBLES)
    if trouble is None:
        return one_line(error)
    line = _line_that(trouble.says, str(error)) or one_line(error)
    return f"{line.rstrip('. ')}; {trouble.advice}"


def compiler_reason(said: str) -> str:
    """What the compiler said in one line, and cause and remedy where they are known.

    Args:
        said: its output, or the message of who called it; the log of a failed compilation ends with what failed.
    """
    trouble = find_trouble(said, COMPILER_TROUBLES)
    wanted = (trouble.line, trouble.says, _ERROR_LINE) if trouble else (_ERROR_LINE,)
    line = next((line for pattern in wanted if pattern and (line := _line_that(pattern, said))), _last_line(said))
    return f"{line.rstrip('. ')}; {trouble.advice}" if trouble else line


_ERROR_LINE = r"\bERROR\b|\[?NCC_\w+\]?|\[[A-Z]{1,4}\d{3}\]|[Ee]rror:"
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ][\d:.Z]+:?\s*")
_SPEAKER = re.compile(r"^(\d+\s+)?ERROR( \|\|\w+\|\|:)?(\s+\d+)?\s*(\[[\w.\-]+\]:)?\s*")
_COMMAND = re.compile(r"^.*Failed compilation with \[.*?\]:\s*")


def _line_that(pattern: str, text: str) -> str | None:
    """The first line in which a pattern is found and that says something, without time and speaker."""
    found = (_plain(line) for line in text.splitlines() if re.search(pattern, line))
    return next((line for line in found if re.search(r"\w", line)), None)


def _last_line(text: str) -> str:
    lines = [line for line in map(_plain, text.splitlines()) if re.search(r"\w", line)]
    return lines[-1] if lines else "no reason is given"


def _plain(line: str) -> str:
    """A line of a log without what is in front of its text."""
    line = _COMMAND.sub("", line.strip())
    line = _SPEAKER.sub("", _TIME.sub("", line))
    line = _TIME.sub("", line).rpartition("RuntimeError: ")[2].strip()
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def manual_table(table: tuple[_Trouble, ...]) -> str:
    """A table of failures in Markdown."""
    rows = [f"| {each.shown}. {each.source} | {_sentence(each.cause)} | {_sentence(each.remedy)} |" for each in table]
    return "\n".join(["| Message | Cause | Remedy |", "|---|---|---|", *rows]) + "\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
