"""Few-step checkpoints: where their steps, timesteps, guidance and scheduler come from, and that they are drawn so.

Small stand-ins in a download cache have the ids of the released ones.
"""

from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler

from optimum_pixart_neuron.checkpoint.few_steps import (
    BY_REPOSITORY,
    BY_SCHEDULER,
    CallDefaults,
    CallOptions,
    check_schedule,
)
from optimum_pixart_neuron.checkpoint.open import open_checkpoint
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions

from ..checkpoints import Parts, cache

DMD, NITRO, YOSO = "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512", "amd/Nitro-1-PixArt", "Luo-Yihong/yoso_pixart512"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hub(tiny_checkpoint, tmp_path_factory) -> Path:
    """A download cache with a transformer alone under each id."""
    folder = tmp_path_factory.mktemp("few")
    alone = Parts.of(tiny_checkpoint, folder / "parts").alone
    for name in (DMD, NITRO, YOSO):
        cache(folder / "cache", name, alone)
    return folder / "cache"


def opened(model, hub, rest, **asked):
    options = ExportOptions(
        model=str(model), output="out", components_model=str(rest), cache_dir=hub, local_files_only=True, **asked
    )
    checkpoint = open_checkpoint(options)
    call = CallDefaults.of(options, checkpoint, options.lora_model_ids)
    if call.steps is not None:
        check_schedule(checkpoint.copied["scheduler"], call.sources["steps"], call.steps, call.timesteps)
    return checkpoint, call


@pytest.mark.parametrize(
    ("model", "asked", "says"),
    [
        ("tiny", {}, ""),
        ("lcm", {}, "4 step(s) (LCMScheduler), guidance scale 0 (LCMScheduler)"),
        ("lcm", {"default_steps": 2}, "2 step(s) (--default_steps), guidance scale 0 (LCMScheduler)"),
        (DMD, {}, f"1 step(s) at 400 ({DMD}), guidance scale 1 ({DMD})"),
        (NITRO, {"default_steps": 2}, f"2 step(s) (--default_steps), guidance scale 0 ({NITRO})"),
        (
            NITRO,
            {"default_timesteps": (900, 300), "default_guidance_scale": 1.5},
            "2 step(s) at 900, 300 (--default_timesteps), guidance scale 1.5 (--default_guidance_scale)",
        ),
        (YOSO, {}, f"1 step(s) ({YOSO}), guidance scale 1 ({YOSO})"),
        ("tiny", {"default_guidance_scale": 3}, "guidance scale 3 (--default_guidance_scale)"),
    ],
)
def test_flags_go_before_the_scheduler_and_that_before_the_table(
    model, asked, says, tiny_checkpoint, consistency, hub
):
    places = {"tiny": tiny_checkpoint, "lcm": consistency}
    _, call = opened(places.get(model, model), hub, tiny_checkpoint, **asked)
    assert call.describe() == says


def test_a_scheduler_of_the_table_is_diffusers_own(hub, tiny_checkpoint):
    """Same schedule and same steps as diffusers' way to change the class, with the settings of the model card."""
    checkpoint, _ = opened(YOSO, hub, tiny_checkpoint)
    scheduler = checkpoint.copied["scheduler"]
    assert checkpoint.model_index["scheduler"] == ["diffusers", "LCMScheduler"]
    assert f"scheduler: LCMScheduler, for {YOSO}" in checkpoint.notes
    before = DPMSolverMultistepScheduler.from_pretrained(tiny_checkpoint / "scheduler")
    expected = LCMScheduler.from_config({**before.config, "prediction_type": "v_prediction"})
    for steps in (1, 4):
        found = []
        for each in (scheduler.load(), expected):
            each.set_timesteps(steps)
            latents = torch.linspace(-2, 2, 4 * 8 * 8).reshape(1, 4, 8, 8)
            generator = torch.Generator().manual_seed(0)
            for at in each.timesteps:
                latents = each.step(latents.sin(), at, latents, generator=generator, return_dict=False)[0]
            found.append((each.timesteps.tolist(), latents))
        assert found[0][0] == found[1][0]
        assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("name", [*BY_REPOSITORY, *BY_SCHEDULER])
def test_every_row_of_the_table_can_be_had(name, tmp_path):
    """Of diffusers, beside the scheduler that the released checkpoint has."""
    row = {**BY_REPOSITORY, **BY_SCHEDULER}[name]
    kind = row.scheduler or {DMD: "DDPMScheduler", NITRO: "DPMSolverMultistepScheduler"}.get(name, "LCMScheduler")
    scheduler = getattr(diffusers, kind)(**row.settings)
    if row.timesteps:
        scheduler.set_timesteps(timesteps=list(row.timesteps))
    else:
        scheduler.set_timesteps(row.steps)
    assert len(scheduler.timesteps) == row.steps
    assert f"`{name}`" in (ROOT / "docs" / "checkpoints.md").read_text()


def test_what_a_scheduler_cannot_have_is_refused(consistency, tiny_checkpoint, hub):
    with pytest.raises(InvalidExportOption, match="--default_steps: 60 steps are not possible, .*LCMScheduler"):
        opened(consistency, hub, tiny_checkpoint, default_steps=60)
    for wrong, message in (
        ({"default_steps": 1, "default_timesteps": (400,)}, "leave out --default_steps"),
        ({"default_timesteps": (300, 900)}, "timesteps fall"),
        ({"default_timesteps": (1000,)}, "at most 999"),
        ({"default_steps": 0}, "at least 1"),
        ({"default_guidance_scale": float("nan")}, "finite"),
    ):
        with pytest.raises(InvalidExportOption, match=message):
            CallOptions(**wrong)
