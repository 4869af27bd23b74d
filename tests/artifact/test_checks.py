"""What is refused before anything of a folder is loaded: the words that name it and what to do.

The folders are small stand-ins with real safetensors headers and real zip archives; nothing here loads them.
`tests/e2e/test_load_checks.py` does the same to real exports.
"""

import io
import json
import os
import shutil
import sys
import typing
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optimum.neuron.utils.argument_utils import InputShapesArguments
from safetensors.numpy import save_file

from optimum_pixart_neuron import files
from optimum_pixart_neuron.artifact import configurations, machine_checks
from optimum_pixart_neuron.artifact.checks import check_artifact, machine_problem
from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest, listed_files
from optimum_pixart_neuron.artifact.under_check import VERIFY
from optimum_pixart_neuron.errors import ArtifactError, DeviceError, InvalidExportOption
from optimum_pixart_neuron.files import FileRecord, sample_digest
from optimum_pixart_neuron.hardware import CORE_VARIABLES, LNC_VARIABLES
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from ..checkpoints import rewrite
from ..hub.exports import manifest_of
from ..runtime.stand_in import Geometry, write_export

RANKS = 4
COMPILER = "2.21.33363.0"
EMULATOR = NeuronSdk(emulated=True, instance="trn1.32xlarge")
TRN1 = NeuronSdk(emulated=False, instance="trn1.32xlarge")
SHARD = "transformer/weights/tp{}_sharded_checkpoint.safetensors"
AGAIN = "export or download it again"
NOT_NEEDED = ("static_patch_size", "static_vae_scale_factor")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """No variable of the runtime is set, and the installed compiler is that of the manifests."""
    for variable in (*CORE_VARIABLES, *LNC_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(machine_checks, "version", lambda name: f"{COMPILER}+installed")


def write_shards(folder: Path, ranks: int, seed: int = 0) -> None:
    """One large tensor that all ranks share and a small one of each rank's own, as in context mode."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = np.random.default_rng(seed).standard_normal(50_000).astype(np.float32)
    for rank in range(ranks):
        weights = {"shared": shared, "rank": np.array([rank], dtype=np.int32)}
        save_file(weights, folder / f"tp{rank}_sharded_checkpoint.safetensors")


def write_program(folder: Path, content: str = "program") -> None:
    with zipfile.ZipFile(folder / "model.neuron", "w") as archive:
        archive.writestr("code", content * 1000)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Without a manifest, like the stock exporter's."""
    root = write_export(tmp_path / "export", Geometry(ranks=RANKS, ours=False))
    for component in ("text_encoder", "transformer", "vae_decoder"):
        write_program(root / component, component)
    for number, component in enumerate(("text_encoder", "transformer")):
        write_shards(root / component / "weights", RANKS, seed=number)
    (root / "scheduler" / "scheduler_config.json").write_text('{"beta_end": 0.02}')
    return root


def sections(folder: Path) -> dict[Path, tuple[dict, dict[str, int]]]:
    """Of each `config.json`: what is in it, and the sizes that loaders and pipelines count on."""
    found = {}
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        sizes = {name: size for name, size in config["neuron"].items() if name.startswith("static_")}
        found[path] = config, {name: size for name, size in sizes.items() if name not in NOT_NEEDED}
    return found


def write_manifest(folder: Path, **fields) -> Manifest:
    machine = {"instance": "trn1.32xlarge", "target": "trn1", "lnc": 1, "emulated": True, "components": {}}
    versions = {"neuronx-cc": f"{COMPILER}+emulated"}
    listed = {name: FileRecord.of(folder / name) for name in listed_files(folder)}
    manifest = manifest_of(RANKS, **{**machine, "versions": versions, "files": listed, **fields})
    manifest.write(folder)
    return manifest


@pytest.fixture
def exported(folder) -> Path:
    """With a manifest."""
    write_manifest(folder)
    return folder


def refusal(folder: Path, sdk: NeuronSdk = EMULATOR, **options) -> str:
    with pytest.raises(ArtifactError) as caught:
        check_artifact(folder, sdk, **options)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("verify", VERIFY)
def test_whole_folders_pass(exported, verify):
    assert check_artifact(exported, EMULATOR, verify=verify).ranks == RANKS


def test_an_unknown_extent_is_refused(exported):
    with pytest.raises(InvalidExportOption, match="verify='digests': choose none, sizes, full"):
        check_artifact(exported, EMULATOR, verify="digests")


def test_what_is_no_export(tmp_path, folder):
    assert "holds no model_index.json" in refusal(tmp_path)
    for config in folder.glob("*/config.json"):
        config.write_text("{}")
    assert "nothing in it is compiled; compile it with `optimum-cli export neuron`" in refusal(folder)


class TestFiles:
    """With a manifest."""

    def test_a_missing_component(self, exported):
        shutil.rmtree(exported / "vae_decoder")
        assert f"vae_decoder/ is missing, or nothing in it is compiled; {AGAIN}" in refusal(exported)

    @pytest.mark.parametrize("component", ["text_encoder", "transformer", "vae_decoder"])
    def test_a_component_that_is_neither_there_nor_listed(self, folder, component):
        shutil.rmtree(folder / component)
        write_manifest(folder)
        assert f"{component}/ is missing, or nothing in it is compiled; {AGAIN}" in refusal(folder)

    @pytest.mark.parametrize("verify", VERIFY)
    def test_a_missing_file(self, exported, verify):
        (exported / SHARD.format(1)).unlink()
        assert f"{SHARD.format(1)} is missing; {AGAIN}" in refusal(exported, verify=verify)
        (exported / SHARD.format(3)).unlink()
        assert f"{SHARD.format(1)} and 1 more are missing" in refusal(exported, verify=verify)

    def test_no_index(self, exported):
        (exported / "model_index.json").unlink()
        assert (
            f"holds no model_index.json, so it is no whole pipeline; give the output folder of an export, or {AGAIN}"
            in (refusal(exported))
        )

    @pytest.mark.parametrize("name", [SHARD.format(2), "transformer/model.neuron"])
    @pytest.mark.parametrize("kept", [0.5, 0.0])
    def test_a_truncated_file(self, exported, name, kept):
        size = (exported / name).stat().st_size
        os.truncate(exported / name, int(size * kept))
        assert f"{name} is truncated: {int(size * kept)} of {size} bytes; {AGAIN}" in refusal(exported)

    def test_the_shard_of_another_rank(self, exported):
        shutil.copyfile(exported / SHARD.format(3), exported / SHARD.format(1))
        assert (exported / SHARD.format(1)).stat().st_size == (exported / SHARD.format(3)).stat().st_size
        expected = f"{SHARD.format(1)} has another content than was exported: it is a copy of the weights of rank 3, "
        assert f"{expected}{SHARD.format(3)}; {AGAIN}" in refusal(exported)

    def test_the_shard_of_another_export(self, exported):
        write_shards(exported / "transformer" / "weights", RANKS, seed=9)
        expected = "has another content than was exported: it is of another export, or damaged"
        assert f"{SHARD.format(0)} {expected}; {AGAIN}" in refusal(exported)

    def test_a_shard_of_another_size(self, exported):
        save_file({"shared": np.zeros(7, np.float32)}, exported / SHARD.format(0))
        size = (exported / SHARD.format(0)).stat().st_size
        message = refusal(exported)
        assert f"{SHARD.format(0)} has {size} bytes, expected " in message
        assert f"it is of another export, or damaged; {AGAIN}" in message

    def test_the_program_of_another_component(self, exported):
        shutil.copyfile(exported / "vae_decoder/model.neuron", exported / "transformer/model.neuron")
        assert "it is a copy of vae_decoder/model.neuron" in refusal(exported)

    @pytest.mark.parametrize("name", [SHARD.format(RANKS), "vae_encoder/model.neuron"])
    def test_a_stranger(self, exported, name):
        (exported / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(exported / SHARD.format(0), exported / name)
        message = refusal(exported)
        assert f"{name} is no part of this export, which has 4 rank(s); remove what is of another export" in message

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
            message = refusal(exported)
            assert f"scheduler/scheduler_config.json {found}" in message
            assert f"it was changed, or is of another export; {AGAIN}, or load with verify='none'" in message
        assert check_artifact(exported, EMULATOR, verify="none")

    def test_a_flipped_bit_that_only_the_digest_sees(self, exported):
        before = sample_digest(exported / SHARD.format(2))
        flip(exported / SHARD.format(2), 100_001)
        assert sample_digest(exported / SHARD.format(2)) == before
        assert check_artifact(exported, EMULATOR)
        assert f"{SHARD.format(2)} is damaged: its SHA-256 is not the manifest's; {AGAIN}" in (
            refusal(exported, verify="full")
        )

    def test_the_progress_of_a_full_verification(self, exported, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # bars are for terminals
        check_artifact(exported, EMULATOR)
        assert "verifying" not in capsys.readouterr().err
        check_artifact(exported, EMULATOR, verify="full")
        assert "verifying" in capsys.readouterr().err

    def test_a_damaged_manifest(self, exported):
        (exported / MANIFEST_FILE).write_text("{")
        assert "is damaged" in refusal(exported)

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

    def test_other_ranks(self, folder):
        path = folder / "transformer" / "config.json"
        config = json.loads(path.read_text())
        for changes in ({"tensor_parallel_size": 3}, {"parallel": {"mode": "context", "ranks": 1000, "guided": True}}):
            path.write_text(json.dumps({**config, "neuron": {**config["neuron"], **changes}}))
            write_manifest(folder)
            number = changes.get("tensor_parallel_size", 1000)
            assert f"transformer/config.json is for {number} ranks, and the export has 4; {AGAIN}" in refusal(folder)

    @pytest.mark.parametrize("dtype", [7, ["float32"], "evil", {}], ids=str)
    def test_dtypes_wherever_they_stand(self, folder, dtype):
        """transformers looks for them in every object of a configuration."""
        path = folder / "transformer" / "config.json"
        config = json.loads(path.read_text())
        for changes in (
            {"torch_dtype": dtype},
            {"neuron": {**config["neuron"], "dtype": dtype}},
            {"more": [{"a": {"dtype": dtype}}]},
        ):
            path.write_text(json.dumps({**config, **changes}))
            write_manifest(folder)
            assert "dtype is none of float32, float16, bfloat16, float64" in refusal(folder)

    @pytest.mark.parametrize(
        "axis, shown", [("evil", "evil"), ("static_height", "static_height"), ("a\x1b", "a\\x1b")]
    )
    @pytest.mark.parametrize("size", [7, None])
    def test_sizes_that_the_host_does_not_know(self, folder, axis, shown, size):
        """It makes arguments of every one, so it would end in a TypeError."""
        path = folder / "transformer" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "neuron": {**config["neuron"], f"static_{axis}": size}}))
        write_manifest(folder)
        assert f"{path}: neuron has a static_{shown}, which no program has; {AGAIN}" in refusal(folder)

    def test_the_sizes_that_the_host_knows(self):
        """All that it takes as a number, so that no export of its own is refused."""
        known = [name for name, kind in typing.get_type_hints(InputShapesArguments).items() if kind == int | None]
        assert configurations._AXES == set(known)

    def test_a_header_that_no_loader_can_read(self, folder):
        path = folder / SHARD.format(2)
        path.write_bytes(b"\x07" + path.read_bytes()[1:])
        write_manifest(folder)
        assert f"{SHARD.format(2)} is truncated or damaged; {AGAIN}" in refusal(folder)

    def test_shards_that_are_neither_there_nor_listed(self, folder):
        (folder / SHARD.format(3)).unlink()
        write_manifest(folder)
        assert f"{SHARD.format(3)} is missing; {AGAIN}" in refusal(folder)


class TestMachine:
    """With a manifest, and what the same words in `config.json` say where there is none."""

    def test_no_device(self, exported):
        nowhere = NeuronSdk(emulated=False, instance=None)
        with pytest.raises(DeviceError, match=f"{exported}: loading it needs a machine with NeuronCores"):
            check_artifact(exported, nowhere)
        assert machine_problem(exported, nowhere) == "loading it needs a machine with NeuronCores"

    def test_no_device_for_a_configuration_that_says_little(self, folder):
        (folder / "transformer/config.json").write_text('{"neuron": {"static_batch_size": 1}}')
        with pytest.raises(DeviceError, match="loading it needs a machine with NeuronCores"):
            check_artifact(folder, NeuronSdk(emulated=False, instance=None))

    def test_an_unknown_instance(self, exported):
        with pytest.raises(DeviceError, match="unknown instance 'trn9.48xlarge': known are"):
            check_artifact(exported, NeuronSdk(emulated=True, instance="trn9.48xlarge"))
        assert check_artifact(exported, NeuronSdk(emulated=True, instance="trn1.1xlarge"))

    def test_another_target(self, folder):
        trn2 = NeuronSdk(emulated=True, instance="trn2.48xlarge")
        expected = (
            "it is compiled for trn1, and this machine is trn2.48xlarge; load it on trn1, or export it again with"
            " --instance_type trn2"
        )
        assert expected in refusal(folder, trn2)
        write_manifest(folder)
        assert expected in refusal(folder, trn2)
        write_manifest(folder, target="trn9")
        assert "it is compiled for trn9, and this machine is trn1.32xlarge" in refusal(folder)

    @pytest.mark.parametrize("target", ["inf2", "trn1n"])
    def test_targets_of_one_instruction_set(self, folder, target):
        write_manifest(folder, target=target)
        assert check_artifact(folder, EMULATOR)

    def test_another_logical_core_config(self, folder, monkeypatch):
        trn2 = NeuronSdk(emulated=True, instance="trn2.48xlarge")
        write_manifest(folder, target="trn2", lnc=2)
        assert check_artifact(folder, trn2)
        for variable in LNC_VARIABLES:
            monkeypatch.setenv(variable, "1")
            assert (
                "it is compiled for logical core config (LNC) 2, and this process has 1; set"
                " NEURON_LOGICAL_NC_CONFIG=2 before the first load, or export it again"
            ) in refusal(folder, trn2)
            monkeypatch.delenv(variable)

    def test_a_logical_core_config_that_the_machine_has_not(self, exported, monkeypatch):
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "2")
        with pytest.raises(DeviceError, match="NEURON_LOGICAL_NC_CONFIG=2: trn1.32xlarge offers 1"):
            check_artifact(exported, EMULATOR)

    @pytest.mark.parametrize(
        ("variables", "visible"),
        [
            ({"NEURON_RT_NUM_CORES": "2"}, "2 are visible (NEURON_RT_NUM_CORES=2)"),
            (
                {"NEURON_RT_VISIBLE_CORES": "31", "NEURON_RT_NUM_CORES": "8"},
                "1 are visible (NEURON_RT_VISIBLE_CORES=31)",
            ),
            ({"NEURON_RT_VISIBLE_CORES": "1,2-3"}, "3 are visible (NEURON_RT_VISIBLE_CORES=1,2-3)"),
        ],
    )
    def test_more_ranks_than_visible_cores(self, exported, monkeypatch, variables, visible):
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        message = refusal(exported)
        assert (
            f"it needs 4 cores, and {visible}; make more visible before the first load, or export it again" in message
        )

    @pytest.mark.parametrize(
        "variable", ["NEURON_RT_NUM_CORES=0", "NEURON_RT_NUM_CORES=4", "NEURON_RT_VISIBLE_CORES=8-11"]
    )
    def test_enough_visible_cores(self, exported, monkeypatch, variable):
        monkeypatch.setenv(*variable.split("="))
        assert check_artifact(exported, EMULATOR)

    def test_cores_that_lie_on_two_chips_of_trn2_are_no_group(self, folder, monkeypatch):
        trn2 = NeuronSdk(emulated=True, instance="trn2.48xlarge")
        write_manifest(folder, target="trn2", lnc=2)
        monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "2-5")
        assert (
            "its 4 cores cannot begin at core 2 of trn2.48xlarge (NEURON_RT_VISIBLE_CORES=2-5), in the middle of a"
            " chip of 4; begin at a multiple of 4 before the first load"
        ) in refusal(folder, trn2)
        monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "60-63")
        assert check_artifact(folder, trn2)

    def test_more_ranks_than_the_instance_has(self, exported):
        assert "it needs 4 cores, and 2 are visible (inf2.xlarge); make more visible" in (
            refusal(exported, NeuronSdk(emulated=True, instance="inf2.xlarge"))
        )

    def test_cores_that_the_runtime_cannot_take(self, exported, monkeypatch):
        monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "30-40")
        with pytest.raises(DeviceError, match="NEURON_RT_VISIBLE_CORES=30-40: .*trn1.32xlarge has cores 0-31"):
            check_artifact(exported, EMULATOR)

    @pytest.mark.parametrize("described", [False, True])
    def test_emulated_on_hardware(self, folder, described):
        if described:
            write_manifest(folder)
        assert (
            "the emulator made it, and its programs run on no NeuronCore; export it again with the Neuron SDK"
        ) in refusal(folder, TRN1)

    def test_compiled_for_hardware_and_here_is_the_emulator(self, folder):
        versions = {"neuronx-cc": f"{COMPILER}+82129205"}
        write_manifest(folder, emulated=False, versions=versions)
        assert check_artifact(folder, TRN1)
        assert (
            "it is compiled for NeuronCores, and the emulator cannot run such programs; load it on trn1 with the"
            " Neuron SDK, or export it again here"
        ) in refusal(folder)

    @pytest.mark.parametrize("newer", ["2.21.33364.0+82129205", "2.22.1.0", "3.0"])
    def test_a_newer_compiler(self, folder, newer):
        write_manifest(folder, emulated=False, versions={"neuronx-cc": newer})
        assert (
            f"it is compiled with neuronx-cc {newer}, and {COMPILER}+installed is installed; update the Neuron SDK"
        ) in refusal(folder, TRN1)

    @pytest.mark.parametrize("older", ["2.21.33363.0+99999999", "2.20.9999.0", "2.9.1"])
    def test_an_older_compiler(self, folder, older):
        write_manifest(folder, emulated=False, versions={"neuronx-cc": older})
        assert check_artifact(folder, TRN1)

    def test_the_machine_is_looked_at_before_the_files(self, exported):
        (exported / SHARD.format(0)).unlink()
        assert "this machine is trn2.3xlarge" in refusal(exported, replace(EMULATOR, instance="trn2.3xlarge"))


class TestWithoutManifest:
    """As the stock exporter writes it."""

    @pytest.mark.parametrize("verify", ["none", "sizes"])
    def test_it_passes(self, folder, verify):
        assert check_artifact(folder, EMULATOR, verify=verify) is None

    def test_there_is_nothing_to_verify_against(self, folder):
        assert "has no neuron_manifest.json to verify it against; leave out verify='full'" in (
            refusal(folder, verify="full")
        )

    def test_a_configuration_that_says_little(self, folder):
        for path, (config, sizes) in sections(folder).items():
            path.write_text(json.dumps({**config, "neuron": sizes}))
        for path in folder.glob("*/weights/tp[123]*"):
            path.unlink()
        assert check_artifact(folder, EMULATOR) is None

    def test_a_configuration_without_a_size(self, folder):
        for path, (config, sizes) in sections(folder).items():
            for size in sizes:
                others = {name: value for name, value in config["neuron"].items() if name != size}
                path.write_text(json.dumps({**config, "neuron": others}))
                assert f"{path}: neuron has no {size}; {AGAIN}" in refusal(folder)
            path.write_text(json.dumps(config))

    @pytest.mark.parametrize(
        ("component", "key"), [("transformer", "out_channels"), ("vae_decoder", "scaling_factor")]
    )
    def test_a_configuration_without_what_a_pipeline_reads(self, folder, component, key):
        """diffusers' own classes fill it in; beside a compiled component its call would end in an AttributeError."""
        path = folder / component / "config.json"
        rewrite(path, **{key: None})
        assert f"{path} has no {key}; {AGAIN}" in refusal(folder)

    @pytest.mark.parametrize("what", ["config.json", "model.neuron"])
    def test_a_missing_part_of_a_component(self, folder, what):
        (folder / "vae_decoder" / what).unlink()
        expected = {
            "config.json": "vae_decoder/ is missing, or nothing",
            "model.neuron": "vae_decoder/model.neuron is",
        }
        assert expected[what] in refusal(folder)

    def test_a_program_under_another_name(self, folder):
        shutil.copyfile(folder / "transformer/model.neuron", folder / "transformer/mine.neuron")
        assert "transformer/mine.neuron is no part of this export" in refusal(folder)
        (folder / "transformer/model.neuron").unlink()
        assert "transformer/model.neuron is missing" in refusal(folder)

    def test_a_damaged_configuration(self, folder):
        (folder / "transformer/config.json").write_text("{")
        assert "transformer/config.json is damaged: " in refusal(folder)

    def test_too_few_and_too_many_shards(self, folder):
        shutil.copyfile(folder / SHARD.format(0), folder / SHARD.format(4))
        assert f"{SHARD.format(4)} is no part of this export, which has 4 rank(s)" in refusal(folder)
        (folder / SHARD.format(4)).unlink()
        (folder / SHARD.format(3)).unlink()
        assert f"{SHARD.format(3)} is missing; {AGAIN}" in refusal(folder)

    @pytest.mark.parametrize("name", [SHARD.format(2), "transformer/model.neuron"])
    @pytest.mark.parametrize("lost", [1, 1000, None])
    def test_a_truncated_file(self, folder, name, lost):
        size = (folder / name).stat().st_size
        os.truncate(folder / name, 0 if lost is None else max(size - lost, 5))
        assert f"{name} is truncated or damaged; {AGAIN}" in refusal(folder)

    def test_garbage_in_a_header(self, folder):
        flip(folder / SHARD.format(0), 7)
        assert f"{SHARD.format(0)} is truncated or damaged" in refusal(folder)

    def test_more_ranks_than_visible_cores(self, folder, monkeypatch):
        monkeypatch.setenv("NEURON_RT_NUM_CORES", "2")
        assert "it needs 4 cores, and 2 are visible (NEURON_RT_NUM_CORES=2)" in refusal(folder)
