"""A compiler that fails: what it said, why, what to do, and where its log is."""

import subprocess
from pathlib import Path

import pytest

from optimum_pixart_neuron.errors import CompilationFailed, DeviceError, LoadError, PixArtNeuronError, RunError
from optimum_pixart_neuron.export.compiler_failure import compiler_failures
from optimum_pixart_neuron.neuron.troubles import (
    COMPILER_TROUBLES,
    RUNTIME_TROUBLES,
    compiler_reason,
    device_reason,
    find_trouble,
    manual_table,
)

from ..e2e.conftest import export_to

# Lines as users have reported them, and the part of the cause that has to be told.
COMPILER_SAID = {
    "2024-06-20T01:02:03Z ERROR 7 [job.WalrusDriver.0]: [XTP002] Number of instructions (7000000) is over the"
    " threshold (5000000)": "one core's program is too large",
    "[NCC_EXTP004] The number of instructions generated exceeds the limit.": "one core's program is too large",
    "[NCC_EOOM002] The combined memory needed for the model tensors exceeds the high-bandwidth memory limit.": (
        "exceed the core's memory"
    ),
    "neuronx-cc failed with -9": "memory was full",
    "[F137] neuronx-cc was forcibly killed - This most commonly occurs due to insufficient system memory.": (
        "memory was full"
    ),
    "google.protobuf: HloModuleProto exceeds maximum protobuf size of 2GB: 2345": "weights or large constants",
    "[NCC_EARG001] unsupported Logical Neuron Core configuration": "no such logical cores",
    "OSError: [Errno 28] No space left on device": "the disk of the compiler's files is full",
    "2024-09-20T13:35:59Z /opt/walrus_driver: error while loading shared libraries: libxml2.so.2: cannot open shared"
    " object file: No such file or directory": "installation is not whole",
    "[Errno 2] No such file or directory: 'neuronx-cc'": "not on PATH",
    "neuronx-cc compile: error: unrecognized arguments: --native-int64": "does not know a flag",
    "[F134] neuronx-cc terminated abnormally - Please open a support ticket": "the compiler has a fault",
}
RUNTIME_SAID = {
    "NRT:nrt_allocate_neuron_cores  Logical Neuron Core(s) not available - Requested:8 Available:0": "holds the cores",
    "The Neuron runtime cannot be initialized; cannot determine the number of available NeuronCores.": "driver",
    "NRT:nrt_load_collectives Unsupported topology. Supported number of Neuron Cores is 1, 2, 8, 16 or a multiple of"
    " 32.": "cannot connect that number of ranks",
    "TDRV:dmem_alloc_internal Failed to alloc DEVICE memory: 1073741824": "memory of the device is full",
    "Could not load the model status=10 message=NRT_UNSUPPORTED_NEFF_VERSION": "older than the compiler",
    "Failed to execute the model status=5 message=NRT_TIMEOUT": "did not finish",
    "status=2 message=NRT_INVALID": "inputs that it was not compiled for",
}


@pytest.mark.parametrize("said", COMPILER_SAID)
def test_what_the_compiler_says_has_a_cause_and_a_remedy(said):
    reason = compiler_reason(f"INFO: starting\n{said}\nneuronx-cc failed with 70")
    trouble = find_trouble(said, COMPILER_TROUBLES)
    assert COMPILER_SAID[said] in trouble.cause
    assert reason.endswith(f"; {trouble.cause}: {trouble.remedy}") and "\n" not in reason
    assert "2024-" not in reason and "[job." not in reason, "time and speaker are noise"


@pytest.mark.parametrize("said", RUNTIME_SAID)
def test_what_the_runtime_says_has_a_cause_and_a_remedy(said):
    trace = f"The following operation failed in the TorchScript interpreter.\nTraceback:\nRuntimeError: {said}"
    reason = device_reason(RuntimeError(trace))
    trouble = find_trouble(said, RUNTIME_TROUBLES)
    assert RUNTIME_SAID[said] in trouble.cause
    assert reason == f"{said.rstrip('.')}; {trouble.advice}"


def test_every_row_of_the_tables_is_tried_here():
    tried = [find_trouble(said, COMPILER_TROUBLES) for said in COMPILER_SAID]
    tried += [find_trouble(said, RUNTIME_TROUBLES) for said in RUNTIME_SAID]
    assert set(tried) == {*COMPILER_TROUBLES, *RUNTIME_TROUBLES}


def test_an_internal_error_is_told_by_its_message_not_by_its_banner():
    said = "\n".join(
        f"2023-05-01T10:00:00Z ERROR 4711 [neuronx-cc]: {line}"
        for line in ("*" * 60, " An Internal Compiler Error has occurred", "*" * 60, "Error message:  list index")
    )
    assert compiler_reason(said).startswith("Error message:  list index; the compiler has a fault")


def test_a_line_that_nobody_knows_is_quoted_alone():
    said = "2025-01-01T00:00:00Z INFO fine\n2025-01-01T00:00:01Z ERROR ||NEURON_CC_WRAPPER||: something new\nthe end"
    assert compiler_reason(said) == "something new"
    assert compiler_reason("no word of an err\nneuronx-cc failed with 70") == "neuronx-cc failed with 70"
    assert compiler_reason("") == "no reason is given"
    assert device_reason(RuntimeError("something new")) == "something new"


def test_the_manual_has_a_row_for_each():
    for table in (COMPILER_TROUBLES, RUNTIME_TROUBLES):
        assert len(manual_table(table).splitlines()) == 2 + len(table)
    assert "messages(compiler)" in Path(__file__).parents[2].joinpath("docs", "troubleshooting.md").read_text()


def test_kinds_of_errors():
    assert issubclass(LoadError, DeviceError) and issubclass(RunError, DeviceError)
    assert issubclass(LoadError, RuntimeError) and issubclass(RunError, RuntimeError), "as the runtime's own are"
    assert CompilationFailed("vae", "reason", None).exit_status == 4


def test_what_a_called_process_wrote_counts_and_other_errors_stay(tmp_path):
    with (
        pytest.raises(CompilationFailed, match=r"^vae could not be compiled: \[NCC_EOOM001\]") as failed,
        compiler_failures("vae", tmp_path, lambda log: log),
    ):
        raise subprocess.CalledProcessError(70, ["neuronx-cc"], stderr=b"[NCC_EOOM001] too much")
    assert failed.value.log is None and "its log" not in str(failed.value)
    for error in (TypeError("ours"), FileNotFoundError(2, "No such file", "weights"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, compiler_failures("vae", tmp_path, lambda log: log):
            raise error
        assert raised.value is error
    with pytest.raises(CompilationFailed, match="not on PATH"), compiler_failures("vae", tmp_path, lambda log: log):
        raise FileNotFoundError(2, "No such file or directory", "neuronx-cc")


@pytest.mark.e2e
def test_an_export_keeps_the_log(neuronx_cc, tiny_checkpoint, tmp_path):
    line = "2025-01-01T00:00:00Z ERROR 1 [Walrus]: [NCC_EOOM001] The combined memory exceeds the high-bandwidth memory"
    neuronx_cc.fails(line)
    sizes = {"height": 128, "width": 128, "sequence_length": 16, "tensor_parallel_size": 2}
    with pytest.raises(CompilationFailed) as failed:
        export_to(tmp_path / "pipeline", tiny_checkpoint, **sizes)
    log, message = tmp_path / "pipeline.failed-compilation.txt", str(failed.value)
    assert (failed.value.component, failed.value.log) == ("text_encoder", log)
    assert message.startswith("text_encoder could not be compiled: [NCC_EOOM001] The combined memory exceeds the high")
    assert "take --torch_dtype bfloat16, a larger --tensor_parallel_size" in message
    assert message.endswith(f"; its log is {log}") and "\n" not in message
    assert log.read_text() == f"{line}\n"
    assert list(tmp_path.glob("*pipeline*")) == [log]


def test_a_log_is_never_written_over(tmp_path):
    from optimum_pixart_neuron.export.unfinished import UnfinishedExport

    (tmp_path / "log-neuron-cc.txt").write_text("why")
    unfinished = UnfinishedExport(tmp_path / "out")
    kept = [unfinished.keep_log(tmp_path / "log-neuron-cc.txt").name for _ in range(2)]
    assert kept == ["out.failed-compilation.txt", "out.failed-compilation-2.txt"]


def test_a_program_that_fails_while_it_runs_is_a_device_error():
    from optimum_pixart_neuron.runtime.turns import OneAtATime

    def broken(said: str) -> None:
        raise RuntimeError(f"trace\nRuntimeError: {said}")

    program = OneAtATime(broken, name="transformer", shared_cores=False)
    with pytest.raises(
        RunError, match="^transformer failed while it ran: status=5 message=NRT_TIMEOUT; the device did"
    ):
        program("status=5 message=NRT_TIMEOUT")
    assert issubclass(RunError, PixArtNeuronError)
