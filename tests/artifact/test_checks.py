"""What is refused of a folder before anything in it is loaded: the words that name it and what to do.

`test_machine_checks.py` has what a machine cannot run; `tests/faults` does the same to real exports.
"""

import io
import json
import os
import shutil
import sys
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from optimum.neuron.utils.argument_utils import InputShapesArguments
from safetensors.numpy import save_file

from optimum_pixart_neuron import files
from optimum_pixart_neuron.artifact import configurations
from optimum_pixart_neuron.artifact.checks import check_artifact
from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
from optimum_pixart_neuron.artifact.under_check import VERIFY
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.files import sample_digest

from ..checkpoints import rewrite
from .conftest import AGAIN, EMULATOR, RANKS, refused, rewrite_section, shard, write_manifest, write_shards

NOT_NEEDED = ("static_patch_size", "static_vae_scale_factor")


MISSING = "is missing, or nothing in it is compiled"
ANOTHER = "has another content than was exported: it is"
STRANGE = "is no part of this export, which has 4 rank(s)"


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def copied(source: str, target: str) -> Callable[[Path], None]:
    def copy(folder: Path) -> None:
        (folder / target).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / source, folder / target)

    return copy


def other_shards(folder: Path) -> None:
    write_shards(folder / "transformer" / "weights", seed=9)


def broken(name: str) -> Callable[[Path], None]:
    """Of a document."""
    return lambda folder: (folder / name).write_text("{")


def flipped(name: str, position: int) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)

    return flip


def sections(folder: Path) -> dict[Path, tuple[dict, dict[str, int]]]:
    """Of each `config.json`: what is in it, and the sizes that loaders and pipelines count on."""
    found = {}
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        sizes = {name: size for name, size in config["neuron"].items() if name.startswith("static_")}
        found[path] = config, {name: size for name, size in sizes.items() if name not in NOT_NEEDED}
    return found


@pytest.mark.parametrize("verify", VERIFY)
def test_whole_folders_pass(exported, verify):
    assert check_artifact(exported, EMULATOR, verify=verify).ranks == RANKS


def test_an_unknown_extent_is_refused(exported):
    with pytest.raises(InvalidExportOption, match="verify='digests': choose none, sizes, full"):
        check_artifact(exported, EMULATOR, verify="digests")


def test_what_is_no_export(tmp_path, stock):
    assert "holds no model_index.json" in refused(tmp_path)
    for config in stock.glob("*/config.json"):
        config.write_text("{}")
    assert "nothing in it is compiled; compile it with `optimum-cli export neuron`" in refused(stock)


class TestFiles:
    """With a manifest."""

    @pytest.mark.parametrize(
        ("damage", "expected"),
        [
            (without("vae_decoder"), f"vae_decoder/ {MISSING}; {AGAIN}"),
            (without("model_index.json"), "holds no model_index.json, so it is no whole pipeline; give the output"),
            (broken(MANIFEST_FILE), "is damaged"),
            (copied(shard(3), shard(1)), f"{shard(1)} {ANOTHER} a copy of the weights of rank 3, {shard(3)}; {AGAIN}"),
            (other_shards, f"{shard(0)} {ANOTHER} of another export, or damaged; {AGAIN}"),
            (copied("vae_decoder/model.neuron", "transformer/model.neuron"), "a copy of vae_decoder/model.neuron"),
            (copied(shard(0), shard(4)), f"{shard(4)} {STRANGE}; remove what is of another export"),
            (copied(shard(0), "vae_encoder/model.neuron"), f"vae_encoder/model.neuron {STRANGE}; remove what is of"),
        ],
    )
    def test_damage_is_named(self, exported, damage, expected):
        damage(exported)
        assert expected in refused(exported)

    @pytest.mark.parametrize("verify", VERIFY)
    def test_a_missing_file(self, exported, verify):
        (exported / shard(1)).unlink()
        assert f"{shard(1)} is missing; {AGAIN}" in refused(exported, verify=verify)
        (exported / shard(3)).unlink()
        assert f"{shard(1)} and 1 more are missing" in refused(exported, verify=verify)

    @pytest.mark.parametrize("name", [shard(2), "transformer/model.neuron"])
    @pytest.mark.parametrize("kept", [0.5, 0.0])
    def test_a_truncated_file(self, exported, name, kept):
        size = (exported / name).stat().st_size
        os.truncate(exported / name, int(size * kept))
        assert f"{name} is truncated: {int(size * kept)} of {size} bytes; {AGAIN}" in refused(exported)

    def test_a_shard_of_another_size(self, exported):
        save_file({"shared": np.zeros(7, np.float32)}, exported / shard(0))
        size = (exported / shard(0)).stat().st_size
        message = refused(exported)
        assert f"{shard(0)} has {size} bytes, expected " in message
        assert f"it is of another export, or damaged; {AGAIN}" in message

    def test_files_of_the_user_are_his(self, exported):
        for name in ("README.md", "picture.png", "notes/lora.safetensors"):
            (exported / name).parent.mkdir(exist_ok=True)
            (exported / name).write_text("mine")
        assert check_artifact(exported, EMULATOR, verify="full")

    def test_an_edited_configuration(self, exported):
        """Of another size, then of the same; whoever means it says so."""
        path = exported / "scheduler" / "scheduler_config.json"
        for text, found in (
            ('{"beta_end": 0.012}', "has 19 bytes, expected 18"),
            ('{"beta_end": 0.03}', "has another content"),
        ):
            path.write_text(text)
            message = refused(exported)
            assert f"scheduler/scheduler_config.json {found}" in message
            assert f"it was changed, or is of another export; {AGAIN}, or load with verify='none'" in message
        assert check_artifact(exported, EMULATOR, verify="none")

    def test_a_flipped_bit_that_only_the_digest_sees(self, exported):
        before = sample_digest(exported / shard(2))
        flipped(shard(2), 100_001)(exported)
        assert sample_digest(exported / shard(2)) == before
        assert check_artifact(exported, EMULATOR)
        expected = f"{shard(2)} is damaged: its SHA-256 is not the manifest's; {AGAIN}"
        assert expected in refused(exported, verify="full")

    def test_the_progress_of_a_full_verification(self, exported, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # bars are for terminals
        check_artifact(exported, EMULATOR)
        assert "verifying" not in capsys.readouterr().err
        check_artifact(exported, EMULATOR, verify="full")
        assert "verifying" in capsys.readouterr().err

    def test_a_sample_reads_little_whatever_the_size(self, tmp_path, monkeypatch):
        """2 GB, sparse: the header and 16 blocks of 4 KiB."""
        path = tmp_path / "tp0_sharded_checkpoint.safetensors"
        size = 2 * 10**9
        header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + size)
        asked = []

        class Counted(io.BufferedReader):
            def read(self, size=-1):
                asked.append(size)
                return super().read(size)

        monkeypatch.setattr(files, "open_regular", lambda path: Counted(io.FileIO(path)))
        sample_digest(path)
        assert min(asked) >= 0 and sum(asked) < 18 * 4096


class TestWhatTheManifestDoesNotSee:
    """A stranger's manifest has the right digest of everything; the loaders go by the files."""

    @pytest.mark.parametrize(
        ("damage", "expected"),
        [
            (without("text_encoder"), f"text_encoder/ {MISSING}; {AGAIN}"),
            (without("vae_decoder"), f"vae_decoder/ {MISSING}; {AGAIN}"),
            (without(shard(3)), f"{shard(3)} is missing; {AGAIN}"),
            (flipped(shard(2), 7), f"{shard(2)} is truncated or damaged; {AGAIN}"),
            (
                partial(rewrite_section, tensor_parallel_size=3),
                "transformer/config.json is for 3 ranks, and the export",
            ),
            (
                partial(rewrite_section, parallel={"mode": "context", "ranks": 1000, "guided": True}),
                f"transformer/config.json is for 1000 ranks, and the export has 4; {AGAIN}",
            ),
        ],
    )
    def test_damage_is_named(self, stock, damage, expected):
        damage(stock)
        write_manifest(stock)
        assert expected in refused(stock)

    @pytest.mark.parametrize("dtype", [7, ["float32"], "evil", {}], ids=str)
    def test_dtypes_wherever_they_stand(self, stock, dtype):
        """transformers looks for them in every object of a configuration."""
        path = stock / "transformer" / "config.json"
        sound = path.read_text()
        for damage in (
            lambda: rewrite(path, torch_dtype=dtype),
            lambda: rewrite_section(stock, dtype=dtype),
            lambda: rewrite(path, more=[{"a": {"dtype": dtype}}]),
        ):
            path.write_text(sound)
            damage()
            write_manifest(stock)
            assert "dtype is none of float32, float16, bfloat16, float64" in refused(stock)

    @pytest.mark.parametrize(("axis", "shown"), [("evil", "evil"), ("static_height",) * 2, ("a\x1b", "a\\x1b")])
    @pytest.mark.parametrize("size", [7, None])
    def test_sizes_that_the_host_does_not_know(self, stock, axis, shown, size):
        """It makes arguments of every one, so it would end in a TypeError."""
        rewrite_section(stock, **{f"static_{axis}": size})
        write_manifest(stock)
        path = stock / "transformer" / "config.json"
        assert f"{path}: neuron has a static_{shown}, which no program has; {AGAIN}" in refused(stock)

    def test_the_sizes_that_the_host_knows(self):
        """All that it takes as a number, so that no export of its own is refused."""
        known = [name for name, kind in typing.get_type_hints(InputShapesArguments).items() if kind == int | None]
        assert configurations._AXES == set(known)


class TestWithoutManifest:
    """As the stock exporter writes it."""

    @pytest.mark.parametrize("verify", ["none", "sizes"])
    def test_it_passes(self, stock, verify):
        assert check_artifact(stock, EMULATOR, verify=verify) is None

    def test_there_is_nothing_to_verify_against(self, stock):
        expected = "has no neuron_manifest.json to verify it against; leave out verify='full'"
        assert expected in refused(stock, verify="full")

    @pytest.mark.parametrize(
        ("damage", "expected"),
        [
            (without("vae_decoder/config.json"), f"vae_decoder/ {MISSING}"),
            (without("vae_decoder/model.neuron"), "vae_decoder/model.neuron is missing"),
            (copied("transformer/model.neuron", "transformer/mine.neuron"), f"transformer/mine.neuron {STRANGE}"),
            (broken("transformer/config.json"), "transformer/config.json is damaged: "),
            (copied(shard(0), shard(4)), f"{shard(4)} {STRANGE}"),
            (without(shard(3)), f"{shard(3)} is missing; {AGAIN}"),
            (flipped(shard(0), 7), f"{shard(0)} is truncated or damaged"),
        ],
    )
    def test_damage_is_named(self, stock, damage, expected):
        damage(stock)
        assert expected in refused(stock)

    @pytest.mark.parametrize("name", [shard(2), "transformer/model.neuron"])
    @pytest.mark.parametrize("lost", [1, 1000, None])
    def test_a_truncated_file(self, stock, name, lost):
        size = (stock / name).stat().st_size
        os.truncate(stock / name, 0 if lost is None else max(size - lost, 5))
        assert f"{name} is truncated or damaged; {AGAIN}" in refused(stock)

    def test_a_configuration_that_says_little(self, stock):
        for path, (config, sizes) in sections(stock).items():
            path.write_text(json.dumps({**config, "neuron": sizes}))
        for path in stock.glob("*/weights/tp[123]*"):
            path.unlink()
        assert check_artifact(stock, EMULATOR) is None

    def test_a_configuration_without_a_size(self, stock):
        for path, (config, sizes) in sections(stock).items():
            for size in sizes:
                others = {name: value for name, value in config["neuron"].items() if name != size}
                path.write_text(json.dumps({**config, "neuron": others}))
                assert f"{path}: neuron has no {size}; {AGAIN}" in refused(stock)
            path.write_text(json.dumps(config))

    @pytest.mark.parametrize(
        ("component", "key"), [("transformer", "out_channels"), ("vae_decoder", "scaling_factor")]
    )
    def test_a_configuration_without_what_a_pipeline_reads(self, stock, component, key):
        """diffusers' own classes fill it in; beside a compiled component its call would end in an AttributeError."""
        path = stock / component / "config.json"
        rewrite(path, **{key: None})
        assert f"{path} has no {key}; {AGAIN}" in refused(stock)
