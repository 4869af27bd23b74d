"""Sharding and loading a text encoder of T5-XXL's size, against copying and reading the same bytes in the same run.

    python examples/benchmark_sharding.py [--layers 24] [--ranks 4 8] [--rounds 4]

Makes a checkpoint in bfloat16 (9.5 GB with 24 layers, two safetensors files) from repeated random blocks, and then, in
another order each round and each in a process of its own:
    copy   copies the checkpoint's files
    shard  compiles nothing, writes the weight files of every rank as `optimum-cli export neuron` does
    renew  what that command does for a component whose program it takes: digests of the checkpoint's files, the
           program, the weight files, digests of what was written
    read   reads the ranks' files from first to last byte
    load   loads the compiled text encoder on the emulator, as our pipeline class does, without running it
Before each all files are dropped from the page cache, and what is written is flushed to the disk inside the time.
Needs four times the checkpoint's size on the disk of --folder. Writes benchmark_sharding.json.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
CHECKPOINT, EXPORT = "checkpoint", "export"
BLOCK = 1 << 28  # bytes of random values, repeated to fill the checkpoint
PIECE = 1 << 20  # bytes that `read` asks for at a time
GOALS = {"shard": ("copy", 1.5), "renew": ("copy", 1.3), "load": ("read", 1.3)}
RESIDENT_GOAL = 3e9  # bytes


@dataclass(frozen=True)
class Result:
    """One measured task.

    Attributes:
        seconds: wall time.
        peak_bytes: greatest resident memory of the process, mapped files included (VmHWM).
        size: bytes read or written.
    """

    seconds: float
    peak_bytes: int
    size: int


def text_encoder_config(layers: int) -> dict:
    """google/t5-v1_1-xxl's configuration, which PixArt-Sigma's text encoder has."""
    from transformers import T5Config

    return T5Config(
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_heads=64,
        num_layers=layers,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        is_encoder_decoder=False,
        use_cache=False,
    ).to_dict()


def make_checkpoint(folder: Path, layers: int) -> int:
    """Write the checkpoint's text encoder in files of at most 5 GB; returns its bytes."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        model = T5EncoderModel(T5Config.from_dict(text_encoder_config(layers))).bfloat16()
    weights = dict(model.named_parameters())
    plan = split_torch_state_dict_into_shards(
        weights, max_shard_size="5GB", filename_pattern="model{suffix}.safetensors"
    )
    values = torch.randn(BLOCK // 2, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    folder.mkdir(parents=True)
    for file, names in plan.filename_to_tensors.items():
        tensors = {}
        for name in names:
            count = weights[name].numel()
            repeated = values.roll(len(name)).repeat(-(-count // len(values)))[:count]
            tensors[name] = repeated.clone().view(weights[name].shape)
        save_file(tensors, folder / file)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(text_encoder_config(layers)))
    return folder_bytes(folder)


def component(folder: Path, ranks: int):
    """The text encoder's export config, as `export/describe.py` makes it."""
    import torch

    from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk("trn1.32xlarge")
    from optimum.neuron.utils import DiffusersPretrainedConfig, InputShapesArguments

    from optimum_pixart_neuron.components.export_config import config_class
    from optimum_pixart_neuron.components.text_encoder.spec import TEXT_ENCODER
    from optimum_pixart_neuron.parallel.modes import TensorParallel

    source = json.loads((folder / CHECKPOINT / "config.json").read_text())
    config = config_class(TEXT_ENCODER)(
        DiffusersPretrainedConfig.from_dict(dict(source)),
        task="feature-extraction",
        input_shapes=InputShapesArguments(batch_size=1, sequence_length=300),
        tensor_parallel_size=ranks,
        int_dtype=torch.int64,
        float_dtype=torch.float32,
    )
    config.source_config = source
    config.source_weights = ComponentWeights.find(folder / CHECKPOINT, TEXT_ENCODER.part.weights, None)
    config.weights_dtype = torch.bfloat16
    config.split = TensorParallel(ranks=ranks).split(TEXT_ENCODER.plan)
    return config


def job_of(folder: Path, ranks: int, export: Path):
    """What makes the text encoder's folder `export`."""
    config = component(folder, ranks)
    from optimum_pixart_neuron.export.compile import CompileJob
    from optimum_pixart_neuron.neuron.compile_cache import CompileCache
    from optimum_pixart_neuron.neuron.compiler import CompilerSettings

    return CompileJob(
        component=config,
        compiler=CompilerSettings(target="trn1", lnc=1),
        cache=CompileCache(enabled=False),
        folder=export,
        workdir=folder / "work",
    )


def compile_program(folder: Path, ranks: int) -> None:
    """The program and the weight files that `load` loads; not measured."""
    job = job_of(folder, ranks, folder / EXPORT)
    from optimum_pixart_neuron.export.compile import compile_component
    from optimum_pixart_neuron.neuron.compiler import environment_variables

    shutil.rmtree(folder / EXPORT, ignore_errors=True)
    with environment_variables(job.compiler.environment(ranks)):
        compile_component(job)
    neuron = {"tensor_parallel_size": ranks, "parallel": {"mode": "tensor", "ranks": ranks, "guided": False}}
    (folder / EXPORT / "config.json").write_text(json.dumps({"neuron": neuron}))


def copy(folder: Path, ranks: int) -> Result:
    target = folder / "copy"
    target.mkdir()

    def work() -> None:
        for path in sorted((folder / CHECKPOINT).iterdir()):
            shutil.copyfile(path, target / path.name)
        flush(target)

    return measured(work, folder, lambda: folder_bytes(target), remove=target)


def shard(folder: Path, ranks: int) -> Result:
    from optimum_pixart_neuron.parallel.shard_writer import write_shards

    config, target = component(folder, ranks), folder / "shards"

    def work() -> None:
        write_shards(
            config.weights(),
            config.read_weight,
            [target / f"{rank}.safetensors" for rank in range(ranks)],
            title="shard",
        )
        flush(target)

    return measured(work, folder, lambda: folder_bytes(target), remove=target)


def renew(folder: Path, ranks: int) -> Result:
    target = folder / "renewed"
    job = job_of(folder, ranks, target)
    from optimum_pixart_neuron.artifact.compiled import PROGRAM_FILE
    from optimum_pixart_neuron.export.compile import compile_component
    from optimum_pixart_neuron.files import flush as flush_all
    from optimum_pixart_neuron.files import records_of

    program = {PROGRAM_FILE: (folder / EXPORT / PROGRAM_FILE).read_bytes()}
    sources = sorted({path.name for path in job.component.source_weights.files.values()})

    def work() -> None:
        with ThreadPoolExecutor(1) as beside:
            digests = beside.submit(records_of, folder / CHECKPOINT, sources, title="read")
            compile_component(job, program)
            digests.result()
            written = (path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
            flushed = beside.submit(flush_all, target)
            records_of(target, sorted(written), title="read back")
            flushed.result()

    return measured(work, folder, lambda: folder_bytes(target / "weights"), remove=target)


def read(folder: Path, ranks: int) -> Result:
    source = folder / EXPORT / "weights"

    def work() -> None:
        piece = bytearray(PIECE)  # one for all: memory that is new to the process costs more than the reading
        for path in sorted(source.iterdir()):
            with path.open("rb", buffering=0) as file:
                while file.readinto(piece):
                    pass

    return measured(work, folder, lambda: folder_bytes(source))


def load(folder: Path, ranks: int) -> Result:
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk("trn1.32xlarge")
    from optimum_pixart_neuron.artifact.loading import load_program

    kept = []

    def work() -> None:
        kept.append(load_program(folder / EXPORT, cores=ranks))

    return measured(work, folder, lambda: folder_bytes(folder / EXPORT / "weights"))


TASKS = {"copy": copy, "shard": shard, "renew": renew, "read": read, "load": load}


def measured(work: Callable[[], None], folder: Path, size: Callable[[], int], remove: Path | None = None) -> Result:
    """Run `work` once with cold files in `folder`; `remove` is deleted afterwards."""
    for path in folder.rglob("*"):
        if path.is_file():
            drop_from_cache(path)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the preparation
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    result = Result(seconds, peak, size())
    if remove:
        shutil.rmtree(remove)
    return result


def flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def alone(task: Callable, *arguments: object):
    """The result of a call in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def print_table(rows: dict[int, dict[str, list[Result]]]) -> bool:
    """Medians and ratios; returns whether every goal is met."""
    from rich.console import Console
    from rich.table import Table

    table, met = Table("ranks", "", "median s", "GB/s", "ratio", "goal", "peak GB"), True
    for ranks, results in rows.items():
        seconds = {name: median(result.seconds for result in each) for name, each in results.items()}
        for name, each in results.items():
            size, peak = each[0].size, max(result.peak_bytes for result in each)
            reference, limit = GOALS.get(name, (None, None))
            ratio = seconds[name] / seconds[reference] if reference else None
            met = met and (ratio is None or ratio <= limit) and (name != "shard" or peak <= RESIDENT_GOAL)
            table.add_row(
                str(ranks),
                f"{name} {size / 1e9:.2f} GB",
                f"{seconds[name]:.1f}",
                f"{size / seconds[name] / 1e9:.2f}",
                f"{ratio:.2f} of {reference}" if ratio else "",
                f"{limit:.1f}, {RESIDENT_GOAL / 1e9:.0f} GB" if name == "shard" else (f"{limit:.1f}" if limit else ""),
                f"{peak / 1e9:.2f}",
            )
    Console().print(table)
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24, help="Of the text encoder (default: %(default)s).")
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8], help="Default: 4 and 8.")
    parser.add_argument("--rounds", type=int, default=4, help="Runs of each task (default: %(default)s).")
    parser.add_argument("--folder", type=Path, help="For the files; default: a temporary folder.")
    parser.add_argument("--output", type=Path, default=HERE, help="Folder of the JSON.")
    options = parser.parse_args()
    rows: dict[int, dict[str, list[Result]]] = {}
    with tempfile.TemporaryDirectory(prefix="pixart-sharding-", dir=options.folder) as holder:
        folder = Path(holder)
        size = alone(make_checkpoint, folder / CHECKPOINT, options.layers)
        print(f"checkpoint of {size / 1e9:.2f} GB", flush=True)
        for ranks in options.ranks:
            alone(compile_program, folder, ranks)
            rows[ranks] = {name: [] for name in TASKS}
            for number in range(options.rounds):
                for name in random.Random(number).sample(list(TASKS), len(TASKS)):
                    rows[ranks][name].append(alone(TASKS[name], folder, ranks))
                    result = rows[ranks][name][-1]
                    print(f"{ranks} ranks, round {number + 1}: {name} {result.seconds:.1f} s", flush=True)
    met = print_table(rows)
    print("All goals are met." if met else "Not all goals are met.")
    print("The emulator's ranks are processes: this shows nothing of the way from the host to a device.")
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "layers": options.layers,
        "checkpoint_bytes": size,
        "results": {
            ranks: {name: [asdict(result) for result in each] for name, each in results.items()}
            for ranks, results in rows.items()
        },
    }
    (options.output / "benchmark_sharding.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
