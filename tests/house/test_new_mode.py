"""Proof: a parallel mode that no product file knows, defined here and added by one registry call.

Two ranks share the rows of a run, whatever they are: those of the guidance pair, in a program of its own. It is
exported and planned, and the picture is that of unmodified diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from optimum_pixart_neuron import register_mode, unregister_mode
from optimum_pixart_neuron.artifact.compiled import Compiled
from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.parallel.modes import ParallelMode, Workload
from optimum_pixart_neuron.parallel.split import Split

from ..checkpoints import opened
from ..e2e.conftest import (  # noqa: F401
    PROMPTS,
    describe,
    export_to,
    load_ours,
    pipeline_arguments,
    reference,
    reference_images,
    sdk,
)
from ..parity import psnr
from ..refusals import refusal

NAME = "batch"


@dataclass(frozen=True, kw_only=True)
class RowSplit(Split):
    """Weights are copied; each rank computes its part of the rows."""

    def apply(self, model: nn.Module, dtype: torch.dtype) -> None:
        from neuronx_distributed.parallel_layers.layers import SPMDRank
        from neuronx_distributed.parallel_layers.mappings import gather_from_tensor_model_parallel_region_with_dim

        model.row_rank = SPMDRank(self.ranks)

        def pick(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            rank = module.row_rank.get_rank()
            return tuple(rows.unflatten(0, (self.ranks, -1)).index_select(0, rank).squeeze(0) for rows in inputs)

        def gather(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return gather_from_tensor_model_parallel_region_with_dim(output, 0)

        model.register_forward_pre_hook(pick)
        model.proj_out.register_forward_hook(gather)

    def added_weights(self) -> dict[str, Tensor]:
        return {"row_rank.rank": torch.arange(self.ranks, dtype=torch.int32)}


class RowParallel(ParallelMode):
    """Rows over ranks."""

    name = NAME
    label = "rows: each rank its own rows"
    help = "splits the rows of a run"
    colour, marker = "#CC79A7", "v"

    def check(self, work: Workload) -> None:
        if self.ranks != self.guidance_groups:
            raise InvalidExportOption(
                f"--tensor_parallel_size {self.ranks}: a run has {self.guidance_groups} row(s) to divide"
            )

    def split(self, plan) -> RowSplit:
        return RowSplit(ranks=self.ranks)

    def share(self, work: Workload, rows: int):
        return replace(super().share(work, rows), rows=rows // self.ranks)


@pytest.fixture(scope="module")
def registered():
    register_mode(RowParallel)
    yield
    unregister_mode(NAME)


@pytest.fixture(scope="module")
def exported(registered, tiny_checkpoint, tmp_path_factory, compiled_once) -> Path:
    output = tmp_path_factory.mktemp("batch") / "pipeline"
    options = {"tensor_parallel_size": 2, "torch_dtype": "float32", "vae_parallel": "one"}
    with compiled_once():
        return export_to(output, tiny_checkpoint, parallel_mode=NAME, **options)


@pytest.mark.e2e
@pytest.mark.ranks
def test_it_draws_what_diffusers_draws(exported, reference_images):  # noqa: F811
    images = load_ours(exported)(PROMPTS, **pipeline_arguments()).images
    assert psnr(images, reference_images) > 60, "0.1 % of a grey level is the order of float32 sums"


@pytest.mark.e2e
@pytest.mark.ranks
def test_artifacts_name_it(exported):
    manifest = Manifest.read(exported)
    assert manifest.parallel_mode == NAME
    modes = {name: component.mode for name, component in manifest.components.items()}
    assert modes == {"text_encoder": "tensor", "transformer": NAME, "vae_decoder": None}
    compiled = Compiled.read(exported / "transformer")
    assert (compiled.parallel.mode, compiled.ranks, compiled.batch) == (NAME, 2, 2)
    assert list(compiled.parallel.collectives) == ["all-gather"]


def test_its_own_rule_for_ranks_is_asked(registered, tiny_checkpoint):
    def ranks(**options) -> int:
        return describe(tiny_checkpoint, parallel_mode=NAME, **options)[0].ranks

    assert ranks() == 2, "of the 8 that are wanted, the most that can share the work"
    with pytest.raises(InvalidExportOption, match="--tensor_parallel_size 4: a run has 2 row"):
        ranks(tensor_parallel_size=4)


@pytest.mark.seconds
def test_it_is_planned(registered, tiny_checkpoint, sdk):  # noqa: F811
    from optimum_pixart_neuron.planner import Request, plan

    request = Request(height=256, width=256, sequence_length=24, parallel_mode=NAME)
    (row,) = plan(request, checkpoint=opened(tiny_checkpoint), instances=["trn1.32xlarge"])
    assert (row.deployment.mode.name, row.deployment.ranks) == (NAME, 2)
    assert row.component("transformer").cost.bytes_sent > 0


def test_a_name_is_taken_once(registered):
    with pytest.raises(ValueError, match=f"a parallel mode '{NAME}' is registered"):
        register_mode(RowParallel)


def test_without_it_the_option_is_refused(registered):
    unregister_mode(NAME)
    message = refusal(InvalidExportOption, ExportOptions, model="somebody/model", output="out", parallel_mode=NAME)
    register_mode(RowParallel)
    assert message == f"--parallel_mode {NAME}: choose context, tensor or data"
