"""Building one program for all ranks, and their weights (NxD 0.15 `trace/model_builder.py`, the V1 builder)."""

import hashlib
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch_neuronx
from libneuronxla import neuron_xla_compile, neuron_xla_wlo_compile
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_neuronx.utils import get_platform_target

from optimum_pixart_neuron.emulator.compiler_flags import parse_flags
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.spmd import build_executor

from ..parallel_layers import parallel_state
from ..utils.model_utils import init_on_device
from .artifacts import write_graph, write_program
from .hlo_utils import NXD_LAYOUT_TRANSFORMATION_OPTIONS
from .mock_torchdist import mock_distributed
from .trace import Checkpoint, get_sharded_checkpoint, preprocess_checkpoint

logger = logging.getLogger("Neuron")

DEFAULT_WORKDIR = "/tmp/nxd_model/"  # shared by all exports of the machine, which is why callers should give their own
LOG_FILE_DEFAULT_NAME = "log-neuron-cc.txt"
DEFAULT_COMPILER_ARGS = "--enable-saturate-infinity --auto-cast=none --model-type=transformer -O1"


def append_default_compiler_flags(compiler_args: str | None = "") -> str:
    """Add `--auto-cast=none` and `-O1` where the user chose neither.

    Only the short form `-O<n>` counts as a choice: behind `--optlevel 2` an `-O1` is appended, and the compiler
    takes the right-most.
    """
    compiler_args = compiler_args or DEFAULT_COMPILER_ARGS
    if "--auto-cast" not in compiler_args:
        compiler_args += " --auto-cast=none "
    elif "--auto-cast=none" not in compiler_args:
        logger.warning("compiler_args have no --auto-cast=none: results may lose accuracy")
    if not re.search(r"-O\d+", compiler_args):
        compiler_args += " -O1 "
    return compiler_args


def get_hash_module(graph: bytes, flags: str) -> str:
    """The key of a graph in the compile cache. Every flag counts, the log file's path too."""
    return hashlib.sha256(graph + flags.replace(" ", "").encode()).hexdigest()[:20]


class BaseModelInstance:
    """How to make the module of one key.

    Args:
        module_cls: called without arguments, inside the parallel state, for the trace and again for the sharding.
        input_output_aliases: weights that outputs are written back to; the emulator takes none.
    """

    def __init__(self, module_cls: Callable[[], nn.Module], input_output_aliases: dict[Any, int]):
        self.module_cls = module_cls
        self.module: nn.Module | None = None
        self.input_output_aliases = [input_output_aliases]

    def load_module(self) -> None:
        self.module = self.module_cls()

    def get(self, bucket_rank: int, **kwargs: Any) -> tuple[nn.Module, dict[Any, int]]:
        """The module and its aliases for one bucket; `load_module` comes first."""
        assert self.module is not None
        return self.module, self.input_output_aliases[0]


class ModelContainer:
    """What `ModelBuilder.add` was told about one key."""

    def __init__(self, model_instance, example_inputs, compiler_args, bucket_config, priority_model_idx):
        self.model_instance: BaseModelInstance = model_instance
        self.example_inputs: list[tuple[Tensor, ...]] = example_inputs
        self.compiler_args: str = compiler_args
        self.bucket_config = bucket_config
        self.priority_model_idx: int | None = priority_model_idx

    def module_for(self, bucket: int) -> nn.Module:
        """The loaded module for one bucket; NotImplementedError when it writes outputs back to weights."""
        kwargs = {} if self.bucket_config is None else self.bucket_config.get_func_kwargs_for_bucket_rank(bucket)
        kwargs.pop("bucket_rank", None)
        module, aliases = self.model_instance.get(bucket, **kwargs)
        if aliases:
            raise NotImplementedError(f"input_output_aliases are not emulated, {len(aliases)} were given")
        return module


class ModelBuilder:
    """Traces modules as rank 0 into programs that `world_size` ranks run, and cuts their checkpoint for the ranks.

    The parameters are NxD's. `router`, `debug` and `weights_to_skip_layout_optimization` have no effect here: there
    is no weight layout to choose. ValueError for a `world_size` without `local_ranks_size`.
    """

    def __init__(
        self,
        router: Any,
        tp_degree: int,
        checkpoint_loader: Callable[[], Checkpoint],
        start_rank_id: int = 0,
        pp_degree: int = 1,
        ep_degree: int = 1,
        local_ranks_size: int | None = None,
        world_size: int | None = None,
        compiler_workdir: str | None = None,
        master_proc_env_vars: dict[str, str] | None = None,
        debug: bool = False,
        num_cores_per_group: int = 1,
        init_custom_process_group_fn: Callable[[], None] | None = None,
        logical_nc_config: int = 1,
        weights_to_skip_layout_optimization=frozenset(),
        compiler_flag_hook: Callable[[str, ModelContainer, int, str], str] | None = None,
    ):
        if not torch_neuronx.__version__.startswith("2"):
            raise AssertionError(f"ModelBuilder needs torch-neuronx 2, found {torch_neuronx.__version__}")
        if world_size is None:
            world_size = tp_degree * pp_degree * ep_degree
        elif local_ranks_size is None:
            raise ValueError(f"world_size {world_size} is given without local_ranks_size: say how many ranks run here")
        self.router = router
        self.tp_degree = tp_degree
        self.pp_degree = pp_degree
        self.ep_degree = ep_degree
        self.world_size = world_size
        self.start_rank_id = start_rank_id
        self.local_ranks_size = world_size if local_ranks_size is None else local_ranks_size
        self.checkpoint_loader = checkpoint_loader
        self.compiler_workdir = compiler_workdir if compiler_workdir else DEFAULT_WORKDIR
        self.model_collection: dict[str, ModelContainer] = {}
        self.master_proc_env_vars = master_proc_env_vars
        self.debug = debug
        self.num_cores_per_group = num_cores_per_group
        self.init_custom_process_group_fn = init_custom_process_group_fn
        self.logical_nc_config = logical_nc_config
        self.weights_to_skip_layout_optimization = weights_to_skip_layout_optimization
        self.compiler_flag_hook = compiler_flag_hook

    def add(
        self,
        key: str,
        model_instance: BaseModelInstance,
        example_inputs: list[tuple[Tensor, ...]],
        compiler_args: str | None = None,
        bucket_config: Any = None,
        priority_model_idx: int | None = None,
    ) -> "ModelBuilder":
        """Add a module with one tuple of positional example inputs per bucket; returns the builder.

        All keys must shard alike: the weights of every one are cut by the first key's module.
        """
        if bucket_config is not None:
            warnings.warn("bucket_config is deprecated: buckets are chosen by shape", DeprecationWarning, stacklevel=2)
            bucket_config.store_example_inputs(example_inputs)
        compiler_args = append_default_compiler_flags(compiler_args)
        self.model_collection[key] = ModelContainer(
            model_instance, example_inputs, compiler_args, bucket_config, priority_model_idx
        )
        return self

    def trace(self, initialize_model_weights: bool = True, dry_run: bool = False) -> torch.jit.ScriptModule | None:
        """Compile every bucket of every key and return the executor, or None after a `dry_run`.

        The work dir, a user's own included, is deleted first. With `initialize_model_weights` the checkpoint is also
        sharded into it and loaded on the ranks. Compiled programs come from and go into the persistent cache, whatever
        the caller wants. After an error the parallel state, its ahead-of-time mode and torch.multiprocessing's
        strategy stay as they were at that moment, as NxD leaves them.

        Raises:
            RuntimeError: `logical_nc_config` differs from the `--lnc` that the compiler would use, a module that
                cannot be compiled, or weights to initialize when not all ranks run here.
        """
        sharing_strategy = torch.multiprocessing.get_sharing_strategy()
        torch.multiprocessing.set_sharing_strategy("file_system")
        os.environ.update(self.master_proc_env_vars or {})
        for key, container in self.model_collection.items():
            self._check_logical_cores(key, container.compiler_args)
        if os.path.exists(self.compiler_workdir):
            shutil.rmtree(self.compiler_workdir)

        graphs: dict[str, list[Program]] = {}
        with self._parallel_state():
            parallel_state.set_aot_mode(True)
            if self.num_cores_per_group > 1:
                parallel_state.initialize_kv_group(self.num_cores_per_group, sequential_ranks_in_group=True)
            if self.init_custom_process_group_fn is not None:
                self.init_custom_process_group_fn()
            for key, container in self.model_collection.items():
                graphs[key] = self._generate_graphs(key, container)
            parallel_state.set_aot_mode(False)
        if dry_run:
            logger.info("graphs and compiler flags are in %s", self.compiler_workdir)
            return None

        programs = {
            key: self._compile(key, container, graphs[key]) for key, container in self.model_collection.items()
        }
        torch.multiprocessing.set_sharing_strategy(sharing_strategy)
        executor = build_executor(programs, world_size=self.world_size, start_rank_id=self.start_rank_id)
        if initialize_model_weights:
            self._initialize(executor)
        return executor

    def _check_logical_cores(self, key: str, compiler_args: str) -> None:
        compiled = parse_flags(compiler_args, get_platform_target()).lnc
        if compiled != self.logical_nc_config:
            raise RuntimeError(
                f"{key}: the builder has logical_nc_config={self.logical_nc_config} but the compiler would use "
                f"--lnc={compiled}: make them agree"
            )

    def _generate_graphs(self, key: str, container: ModelContainer) -> list[Program]:
        container.model_instance.load_module()
        graphs = []
        for bucket, example_inputs in enumerate(container.example_inputs):
            flags = self._flags(key, container, bucket)
            module = container.module_for(bucket)
            program = Program.compile(module, tuple(example_inputs), compiler_args=flags, world_size=self.world_size)
            write_graph(program, self._bucket_folder(key, bucket), flags)
            graphs.append(program)
        return graphs

    def _flags(self, key: str, container: ModelContainer, bucket: int) -> str:
        """The compiler's command line. The log file's path is not quoted, as NxD does not quote it."""
        flags = container.compiler_args
        is_priority = bucket == container.priority_model_idx
        if "--logfile" not in flags:
            flags += f" --logfile={(self._bucket_folder(key, bucket) / LOG_FILE_DEFAULT_NAME).absolute()}"
        if is_priority:
            return f"{flags} --enable-internal-neff-wrapper"
        return self.compiler_flag_hook(key, container, bucket, flags) if self.compiler_flag_hook else flags

    def _compile(self, key: str, container: ModelContainer, graphs: list[Program]) -> list[Program]:
        programs = []
        for bucket, graph in enumerate(graphs):
            folder, flags = self._bucket_folder(key, bucket), self._flags(key, container, bucket)
            module_bytes = bytes(graph.to_bytes())
            options: dict[str, Any] = {
                "platform_target": get_platform_target(flags),
                "cache_key": get_hash_module(module_bytes, flags),
                "work_dir": folder.absolute(),
                "create_subdir": False,
            }
            if bucket == container.priority_model_idx:
                neff, _ = neuron_xla_wlo_compile(module_bytes, flags, **options)
            else:
                _rewrite_in_current_folder(f"{key}_{bucket}", module_bytes)
                neff = neuron_xla_compile(module_bytes, flags, **options)
            program = Program.from_bytes(neff)
            write_program(program, folder)
            programs.append(program)
        return programs

    def _bucket_folder(self, key: str, bucket: int) -> Path:
        return Path(self.compiler_workdir, key, f"_tp0_bk{bucket}")

    def _initialize(self, executor: torch.jit.ScriptModule) -> None:
        if self.local_ranks_size < self.world_size:
            raise RuntimeError(
                f"initialize_model_weights must be False: {self.local_ranks_size} of {self.world_size} ranks run here"
            )
        self.shard_checkpoint(self.compiler_workdir)
        weights = [load_file(_shard_file(self.compiler_workdir, rank)) for rank in self._ranks]
        executor.nxd_model.initialize(weights, torch.tensor([self.start_rank_id], dtype=torch.int32))

    @contextmanager
    def _parallel_state(self) -> Iterator[None]:
        """Rank 0 of the builder's world; after an error it stays."""
        with mock_distributed(world_size=self.world_size):
            torch.distributed.init_process_group(backend="xla", rank=0, world_size=self.world_size)
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=self.tp_degree,
                pipeline_model_parallel_size=self.pp_degree,
                expert_model_parallel_size=self.ep_degree,
                skip_collective_init=True,
                lnc_size=self.logical_nc_config,
            )
            yield
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()

    @property
    def _ranks(self) -> range:
        return range(self.start_rank_id, self.start_rank_id + self.local_ranks_size)

    def cast_weights(self, checkpoint: Checkpoint, model: nn.Module, prefix: str) -> None:
        """Cast entries, in place, to the dtype of the parameter they are for; buffers keep the checkpoint's."""
        for name, child in model._modules.items():
            if child is not None:
                self.cast_weights(checkpoint, child, f"{prefix}{name}.")
        for name, parameter in model.named_parameters(recurse=False):
            key = prefix + name
            if key in checkpoint and checkpoint[key].dtype != parameter.dtype:
                logger.warning("casting %s from %s to %s", key, checkpoint[key].dtype, parameter.dtype)
                checkpoint[key] = checkpoint[key].to(parameter.dtype)

    def shard_checkpoint(self, serialize_path: str | None = None) -> list[Checkpoint]:
        """Each local rank's part of the checkpoint, also saved as `tp{rank}_sharded_checkpoint.safetensors`.

        The first key's module is built with its parameters on `meta`, then `checkpoint_loader` is called, both inside
        the parallel state. An entry the module misses is left out in silence: a rank misses it when it is initialized.
        Saving fails (RuntimeError of safetensors) when two entries share memory.
        """
        if serialize_path is not None:
            os.makedirs(serialize_path, exist_ok=True)
        container = next(iter(self.model_collection.values()))
        with self._parallel_state(), init_on_device(torch.device("meta"), force_custom_init_on_device=True):
            if self.init_custom_process_group_fn is not None:
                self.init_custom_process_group_fn()
            container.model_instance.load_module()
            model = container.module_for(0)
            checkpoint = self.checkpoint_loader()
            preprocess_checkpoint(model, checkpoint)
            self.cast_weights(checkpoint, model, "")
            return [self.shard_weights_with_cache(rank, model, checkpoint, serialize_path) for rank in self._ranks]

    def shard_weights_with_cache(
        self, rank: int, model: nn.Module, checkpoint: Checkpoint, serialize_path: str | None = None
    ) -> Checkpoint:
        """One rank's part of a checkpoint that is preprocessed already; inside the parallel state."""
        sharded = dict(checkpoint)
        get_sharded_checkpoint(sharded, model, rank, self.tp_degree, is_cached=True)
        if serialize_path is not None:
            whole = {name: tensor.contiguous() for name, tensor in sharded.items()}
            save_file(whole, _shard_file(serialize_path, rank))
        return sharded

    def transform_weight_layout_with_overriden_option(self, sharded_checkpoint_dir: str) -> None:
        """Nothing to do unless the environment asks for another weight layout, which the emulator does not have."""
        if NXD_LAYOUT_TRANSFORMATION_OPTIONS in os.environ:
            raise RuntimeError(f"{NXD_LAYOUT_TRANSFORMATION_OPTIONS} is not emulated: unset it")


def _rewrite_in_current_folder(name: str, graph: bytes) -> None:
    """The layout of weights is written into a graph by way of two files in the current folder, which go again."""
    files = [Path(f"{name}.hlo"), Path(f"{name}_optimized.hlo")]
    for file in files:
        file.write_bytes(graph)
    for file in files:
        file.unlink()


def _shard_file(directory: str, rank: int) -> str:
    return os.path.join(directory, f"tp{rank}_sharded_checkpoint.safetensors")
