"""Adapters that peft wrote, merged as peft merges them: recorded, and anew where peft is installed."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .adapters import weights_of
from .test_adapters import assert_merged, opened

RECORDED = Path(__file__).parents[1] / "fixtures" / "lora"
"""Made by `record` with peft 0.21.2 on the small checkpoint."""
SMALL = ["transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn2.to_out.0", "pos_embed.proj"]
CASES = {
    "plain": {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"attn2.to_out.0": 1}},
    "rslora": {"r": 4, "lora_alpha": 3, "use_rslora": True},
    "dora": {"r": 4, "lora_alpha": 2, "use_dora": True},
}
ALL = ["to_k", "to_q", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj", "linear", "linear_1", "linear_2"]
"""What the script that trains LoRAs of PixArt adapts."""


def record(checkpoint: Path, folder: Path, modules: list[str], settings: dict) -> dict[str, torch.Tensor]:
    """Have peft make an adapter, save it and merge it; returns the weights that it changed."""
    from diffusers import PixArtTransformer2DModel
    from peft import LoraConfig, get_peft_model

    plain = weights_of(checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PixArtTransformer2DModel.from_pretrained(checkpoint / "transformer")
        model = get_peft_model(model, LoraConfig(target_modules=modules, **settings))
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.add_(torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.1))
    model.save_pretrained(folder)
    merged = model.merge_and_unload().state_dict()
    return {name: merged[name] for name in plain if not torch.equal(merged[name], plain[name])}


@pytest.mark.parametrize("case", CASES)
def test_as_peft_merged_it_when_it_was_recorded(tiny_checkpoint, case):
    expected = load_file(RECORDED / case / "merged.safetensors")
    assert len(expected) == len(SMALL)
    assert_merged(opened(tiny_checkpoint, RECORDED / case, lora_weight_names="adapter_model.safetensors"), expected)


@pytest.mark.parametrize("case", CASES)
def test_as_peft_merges_it(tiny_checkpoint, tmp_path, case):
    pytest.importorskip("peft")
    expected = record(tiny_checkpoint, tmp_path, ALL, CASES[case])
    assert len(expected) == 2 * (8 + 2) + 6
    assert_merged(opened(tiny_checkpoint, tmp_path), expected)


if __name__ == "__main__":
    import tempfile

    from ..tiny import build_tiny_checkpoint

    with tempfile.TemporaryDirectory() as place:
        for name, settings in CASES.items():
            shutil.rmtree(RECORDED / name, ignore_errors=True)
            changed = record(build_tiny_checkpoint(place), RECORDED / name, SMALL, settings)
            (RECORDED / name / "README.md").unlink()
            save_file(changed, RECORDED / name / "merged.safetensors")
