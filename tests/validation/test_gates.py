"""Gates that catch a wrong compiler: ranks compared bit for bit, a whole schedule step by step; faults are named.

Each fault is put into a compiled folder, or between its program and the comparison, where a wrong compiler puts it.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.artifact.manifest_records import StepRecord, ValidationRecord
from optimum_pixart_neuron.components.registry import COMPONENTS
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.validation import programs
from optimum_pixart_neuron.validation import validate as module
from optimum_pixart_neuron.validation.ranks import difference_of_ranks
from optimum_pixart_neuron.validation.table import log_table

from .conftest import shard

TRANSFORMER = COMPONENTS["transformer"]


class TestRanks:
    def test_equal_outputs_are_equal_bit_for_bit(self):
        outputs = [[torch.tensor([1.0, torch.nan])] for _ in range(4)]
        assert difference_of_ranks(TRANSFORMER, outputs) is None

    def test_one_unit_in_the_last_place_is_named(self):
        value = torch.tensor([[1.0, 2.0]])
        other = torch.nextafter(value, torch.tensor(9.0))
        assert difference_of_ranks(TRANSFORMER, [[value], [value], [other]]) == (
            "out_hidden_states of rank 2 differs from rank 0's in 2 of 2 values, by 2.4e-07 at most"
        )
        assert "has shape (1, 1)" in difference_of_ranks(TRANSFORMER, [[value], [value[:, :1]]])

    def test_zero_and_minus_zero_are_two_values(self):
        assert difference_of_ranks(TRANSFORMER, [[torch.zeros(1)], [-torch.zeros(1)]]) is not None

    def test_outputs_that_are_each_ranks_own_are_left_out_by_name(self, monkeypatch):
        monkeypatch.setattr(type(TRANSFORMER), "rank_outputs", ("out_hidden_states",))
        assert difference_of_ranks(TRANSFORMER, [[torch.zeros(1)], [torch.ones(1)]]) is None


@pytest.fixture
def spoiled(monkeypatch):
    """Have every program run with other inputs, or have its outputs changed."""

    def spoil(inputs=lambda tensors: tensors, outputs=lambda tensors: tensors) -> None:
        class Spoiled(programs.RankComparison):
            def __call__(self, *tensors):
                return outputs(super().__call__(*inputs(tensors)))

        monkeypatch.setattr(programs, "RankComparison", Spoiled)

    return spoil


pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


def test_one_rank_that_is_off_by_one_unit_in_the_last_place(float32_folder, copied, checkpoint, validate, logged):
    """No error of rank 0, whose output is all that becomes a picture."""
    folder = copied(float32_folder)
    file = shard(folder, "text_encoder", 1)
    weights = load_file(file)
    norm = weights["encoder.final_layer_norm.weight"]
    norm[3] = torch.nextafter(norm[3], torch.tensor(9.0))
    save_file(weights, file)
    (record,) = validate(folder, checkpoint, "text_encoder").values()
    assert not record.passed and record.max_error < 2e-5
    assert record.ranks_differ.startswith("last_hidden_state of rank 1 differs from rank 0's in ")
    assert record.misses == f"text_encoder: {record.ranks_differ}"
    log_table([record])
    assert logged.messages[-1] == f"  ranks       text_encoder: {record.ranks_differ}"


def test_a_row_of_zeros(float32_folder, checkpoint, validate, spoiled):
    def zero_a_row(outputs):
        outputs[0][0, :, 3] = 0
        return outputs

    spoiled(outputs=zero_a_row)
    records = validate(float32_folder, checkpoint, "text_encoder", "transformer")
    assert records["transformer"].misses.startswith("transformer is off by ")


def test_a_program_that_ignores_the_mask(bfloat16_folder, checkpoint, validate, spoiled):
    spoiled(inputs=lambda given: (*given[:3], torch.ones_like(given[3])) if len(given) == 4 else given)
    records = validate(bfloat16_folder, checkpoint, "text_encoder", "transformer")
    assert records["transformer"].misses.startswith("transformer is off by ")


class TestSchedule:
    def test_it_is_drawn(self, logged):
        errors = {0.0: True, 0.05: True, 0.1: True, 0.2: False, float("inf"): False, float("nan"): False}
        steps = [
            StepRecord(timestep=999, max_error=error, allowed=0.1, passed=passed) for error, passed in errors.items()
        ]
        numbers = {"max_error": 0.1, "cosine": 0.99, "psnr": 40.0, "limit": "as given"}
        record = ValidationRecord(component="transformer", passed=False, steps=steps, **numbers)
        log_table([record])
        title, *rows = logged.messages[-1].splitlines()
        assert title.strip() == (
            "transformer: every step from the original's latents, a full bar is the largest error allowed"
        )
        assert [row.count("█") for row in rows if " 999 " in row] == [0, 15, 30, 30, 30, 30]
        assert [row.endswith("MISS") for row in map(str.rstrip, rows) if " 999 " in row] == [False] * 3 + [True] * 3
        assert record.misses == "transformer is off by 0.2 at step 4 of 6, timestep 999 (0.1 is allowed)"

    def test_a_schedule_that_the_scheduler_cannot_have(self, checkpoint, tmp_path):
        scheduler = checkpoint.copied["scheduler"].replaced("LCMScheduler", {}, "")
        few_steps = replace(checkpoint, copied={**checkpoint.copied, "scheduler": scheduler})
        with pytest.raises(InvalidExportOption, match=r"^--steps: 60 steps are not possible, .*LCMScheduler.* 50"):
            module.validate_artifacts(tmp_path, few_steps, atol=None, steps=60)

    def test_every_step_is_compared(self, bfloat16_folder, checkpoint, validate):
        records = validate(bfloat16_folder, checkpoint, "text_encoder", "transformer", steps=3)
        assert records["text_encoder"].steps == () and records["text_encoder"].passed
        record = records["transformer"]
        assert record.passed and record.misses == "" and record.ranks_differ is None
        assert [step.timestep for step in record.steps] == sorted((s.timestep for s in record.steps), reverse=True)
        assert len(record.steps) == 3 and all(0 < step.max_error <= step.allowed for step in record.steps)

    @pytest.mark.soak
    def test_a_bfloat16_timestep_is_named_by_its_step(self, float32_folder, checkpoint, validate, spoiled):
        """999 becomes 1000 at the first step."""
        spoiled(inputs=lambda given: tuple(t.bfloat16().float() if t.dim() == 1 else t for t in given))
        record = validate(float32_folder, checkpoint, "text_encoder", "transformer", steps=3)["transformer"]
        assert not record.passed and not record.steps[0].passed
        assert "at step 1 of 3, timestep 999 (" in record.misses
