"""`from_pretrained` on stand-ins: what it takes, what it refuses before any work, and what it leaves behind."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

from optimum_pixart_neuron import emulator
from optimum_pixart_neuron.emulator import device
from optimum_pixart_neuron.errors import ArtifactError, DeviceError, InvalidArgument, InvalidExportOption
from optimum_pixart_neuron.neuron.sdk import NeuronSdk, ensure_sdk, sdk_for
from optimum_pixart_neuron.runtime import taken_cores

from ..refusals import refusal
from .stand_in import Geometry, as_loaded, stand_in_programs

WITHOUT_DEVICE = NeuronSdk(emulated=False, instance=None)


@pytest.fixture
def pipeline_class(monkeypatch):
    """Our class, whose programs are stand-ins."""
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    load_model = staticmethod(lambda *_args, **_paths: as_loaded(stand_in_programs(Geometry())))
    monkeypatch.setattr(NeuronPixArtSigmaPipeline, "load_model", load_model)
    return NeuronPixArtSigmaPipeline


@pytest.fixture
def nothing_happens(monkeypatch):
    """Reading a folder, downloading and compiling are errors."""

    def forbidden(*arguments, **options):
        raise AssertionError(f"got as far as {arguments}")

    for name in ("check_artifact", "pull", "is_repository"):
        monkeypatch.setattr(f"optimum_pixart_neuron.runtime.pipeline.{name}", forbidden)
    monkeypatch.setattr("optimum_pixart_neuron.export.exporter.export", forbidden)


@pytest.fixture
def pulled(export_of, monkeypatch) -> list[tuple]:
    """What is pulled; a stand-in comes of each."""
    asked = []
    monkeypatch.setattr(
        "optimum_pixart_neuron.runtime.pipeline.pull",
        lambda model_id, **options: asked.append((model_id, options)) or export_of(),
    )
    return asked


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"revsion": "v1"}, "revsion: no argument of from_pretrained; did you mean revision?"),
            ({"use_auth_token": "x"}, "use_auth_token: no argument of from_pretrained; did you mean token?"),
            ({"data_parallel_mode": "all"}, "no argument of from_pretrained; did you mean parallel_mode?"),
            (
                {"batch_size": 4, "torch_dtype": torch.float32},
                "batch_size, torch_dtype: decided when the pipeline was compiled; leave it out, or compile a"
                " checkpoint with export=True",
            ),
            (
                {"subfolder": "xl"},
                "subfolder='xl': a compiled pipeline is a whole folder or repository; load some/folder/xl, a folder of"
                " this machine",
            ),
            ({"scheduler": "Euler"}, "scheduler: expected a scheduler of diffusers, given str"),
            ({"prompt_cache": -1}, "prompt_cache: expected a whole number from 0 on, given -1"),
            ({"prompt_cache": True}, "prompt_cache: expected a whole number from 0 on, given True"),
        ],
    )
    def test_refused(self, pipeline_class, nothing_happens, arguments, message):
        assert refusal(InvalidArgument, pipeline_class.from_pretrained, "some/folder", **arguments).endswith(message)

    def test_refused_before_anything_is_compiled(self, pipeline_class, nothing_happens, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        for arguments, error in (
            ({"verify": "typo"}, InvalidExportOption),
            ({"scheduler": "Euler"}, InvalidArgument),
            ({"revsion": "v1"}, InvalidExportOption),
            ({"force_download": True}, InvalidExportOption),
        ):
            with pytest.raises(error):
                pipeline_class.from_pretrained("some/folder", export=True, **arguments)
        assert not list(tmp_path.iterdir())

    def test_taken(self, pipeline_class, export_of):
        scheduler = EulerDiscreteScheduler(num_train_timesteps=500)
        pipe = pipeline_class.from_pretrained(
            export_of(), verify="none", scheduler=scheduler, prompt_cache=2, subfolder="", local_files_only=True
        )
        assert pipe.scheduler is scheduler
        assert pipe.config["scheduler"] == ("diffusers", "EulerDiscreteScheduler")
        assert pipe.prompt_cache.limit == 2
        plain = pipeline_class.from_pretrained(export_of(), verify="none", prompt_cache=0)
        assert isinstance(plain.scheduler, DPMSolverMultistepScheduler)
        assert plain.prompt_cache.limit == 0

    def test_a_home_folder(self, pipeline_class, export_of, monkeypatch):
        folder = export_of()
        monkeypatch.setenv("HOME", str(folder.parent))
        for model_id in (f"~/{folder.name}", Path("~", folder.name)):
            assert pipeline_class.from_pretrained(model_id, verify="none").model_save_dir == folder


class TestModels:
    """What a model may be, and what is looked at before it."""

    @pytest.mark.parametrize("gone", ["nothing", "~/nothing", "/no/such/folder", "./pixart-neuron/", Path("a/b/c")])
    def test_a_folder_that_is_not_there(self, pipeline_class, gone):
        with pytest.raises(ArtifactError, match="there is no such folder, and it is no repository id"):
            pipeline_class.from_pretrained(gone)

    @pytest.mark.parametrize("model_id", ["user/repo", None])
    def test_without_a_device_nothing_is_loaded_or_downloaded(
        self, pipeline_class, export_of, pulled, monkeypatch, model_id
    ):
        monkeypatch.setattr("optimum_pixart_neuron.runtime.pipeline.ensure_sdk", lambda: WITHOUT_DEVICE)
        monkeypatch.setattr(pipeline_class, "load_model", lambda *_: pytest.fail("loaded"))
        with pytest.raises(DeviceError, match="loading it needs a machine with NeuronCores"):
            pipeline_class.from_pretrained(model_id or export_of())
        assert pulled == []

    def test_a_hub_id_is_pulled_and_checked(self, pipeline_class, pulled):
        """The options go to the download and not to the host; what arrives here has empty files for programs."""
        download = {"revision": "v1", "token": "t", "cache_dir": "c", "local_files_only": True}
        with pytest.raises(ArtifactError, match="model.neuron and 2 more are truncated or damaged"):
            pipeline_class.from_pretrained("user/repo", **download)
        assert pulled == [("user/repo", download)]

    @pytest.mark.parametrize("model_id", [None, 3, b"x", ""])
    def test_no_place(self, pipeline_class, nothing_happens, model_id):
        with pytest.raises(InvalidArgument, match="model_id: expected a folder or an id on the Hub, given"):
            pipeline_class.from_pretrained(model_id)

    def test_what_is_too_long_for_a_path(self, pipeline_class):
        with pytest.raises(ArtifactError, match="there is no such folder"):
            pipeline_class.from_pretrained("x" * 300)


class TestExport:
    """Compile and load; the export itself is one that copies a stand-in."""

    @pytest.fixture
    def exports(self, export_of, monkeypatch, tmp_path):
        """Options of the exports that were asked for."""
        asked = []

        def export(options, *, kind):
            asked.append(options)
            shutil.copytree(export_of(), options.output)
            return options.output

        monkeypatch.setattr("optimum_pixart_neuron.export.exporter.export", export)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return asked

    @pytest.mark.seconds
    def test_a_temporary_folder_lives_as_long_as_the_pipeline(self, pipeline_class, exports, tmp_path):
        pipe = pipeline_class.from_pretrained("some/checkpoint", export=True, verify="none", revision="v1", height=256)
        (options,) = exports
        assert (options.model, options.revision, options.height) == ("some/checkpoint", "v1", 256)
        assert Path(pipe.model_save_dir) == options.output
        child = os.fork()
        if child == 0:
            del pipe
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert options.output.is_dir(), "a forked process took the artifacts away"
        del pipe
        gc.collect()
        assert not list(tmp_path.iterdir())

    def test_what_cannot_be_loaded_is_kept_and_named(self, pipeline_class, exports, caplog):
        # The stand-ins for programs are empty files.
        said = refusal(ArtifactError, pipeline_class.from_pretrained, "some/checkpoint", export=True)
        (options,) = exports
        assert said.startswith(f"compiled into {options.output}, but {options.output}: ")
        assert options.output.is_dir()

    def test_without_a_device_what_was_compiled_stays_and_is_named(self, pipeline_class, exports, monkeypatch):
        """The SDK is installed, but the machine has no NeuronCore: compiling works there."""
        for name in ("ensure_sdk", "sdk_for"):
            monkeypatch.setattr(f"optimum_pixart_neuron.runtime.compile_first.{name}", lambda *_: WITHOUT_DEVICE)
        asked = {"export": True, "instance_type": "trn1"}
        said = refusal(DeviceError, pipeline_class.from_pretrained, "some/checkpoint", **asked)
        (options,) = exports
        assert said.startswith(f"compiled into {options.output}, but loading it needs a machine")
        assert options.output.is_dir()

    def test_another_librarys_error_at_load(self, pipeline_class, exports, monkeypatch):
        def load_model(*_args, **_paths):
            raise RuntimeError("out of device memory")

        monkeypatch.setattr(pipeline_class, "load_model", staticmethod(load_model))
        said = refusal(RuntimeError, pipeline_class.from_pretrained, "some/checkpoint", export=True, verify="none")
        assert f"compiled into {exports[0].output}, but" in said and "out of device memory" in said

    def test_an_interrupted_export_leaves_nothing(self, pipeline_class, exports, monkeypatch, tmp_path):
        def export(options, *, kind):
            options.output.mkdir()
            raise KeyboardInterrupt

        monkeypatch.setattr("optimum_pixart_neuron.export.exporter.export", export)
        with pytest.raises(KeyboardInterrupt):
            pipeline_class.from_pretrained("some/checkpoint", export=True)
        assert not list(tmp_path.iterdir())

    def test_another_instance_is_refused_before_it_is_compiled(self, pipeline_class, exports, monkeypatch):
        here = NeuronSdk(emulated=False, instance="trn1.32xlarge")
        monkeypatch.setattr("optimum_pixart_neuron.runtime.compile_first.sdk_for", lambda instance: here)
        asked = {"export": True, "instance_type": "trn2"}
        assert refusal(InvalidExportOption, pipeline_class.from_pretrained, "some/checkpoint", **asked) == (
            "--instance_type trn2: from_pretrained loads what it compiles, and this machine is trn1.32xlarge; compile"
            " it with `optimum-cli export neuron`, and load it there"
        )
        assert exports == []


class TestTheEmulatedInstance:
    @pytest.fixture(autouse=True)
    def as_before(self, monkeypatch):
        ensure_sdk()
        monkeypatch.setattr(emulator, "_active", emulator.emulated_instance())
        monkeypatch.setattr(device, "_device", None)
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")

    def test_it_becomes_the_one_that_is_compiled_for(self):
        assert sdk_for("trn2").instance == "trn2.48xlarge"
        assert sdk_for("trn2.3xlarge").instance == "trn2.3xlarge"
        assert sdk_for("trn2").instance == "trn2.3xlarge", "it is of that family"
        assert os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] == "trn2"

    def test_it_stays_what_it_is_once_programs_were_loaded(self):
        before = emulator.emulated_instance()
        device.current_device()
        assert sdk_for("trn2").instance == before.name
        with pytest.raises(RuntimeError, match="the emulator is active as .*: trn2.48xlarge needs a new process"):
            emulator.become("trn2")


class TestTakenCores:
    """The runtime takes its cores at the first load; a later pipeline that needs more is told so in one line."""

    @pytest.fixture
    def load_model(self, monkeypatch):
        from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

        loaded = []
        monkeypatch.setattr(taken_cores, "_taken", None)
        monkeypatch.setattr(
            "optimum_pixart_neuron.runtime.loaded_programs.load_program", lambda path, cores: loaded.append(path.name)
        )

        def load(folder: Path, ranks: int) -> list[str]:
            loaded.clear()
            with NeuronPixArtSigmaPipeline.set_neuron_visible_cores(ranks):  # as the host's loader does
                paths = {f"{name}_path": folder / name / "model.neuron" for name in ("text_encoder", "transformer")}
                NeuronPixArtSigmaPipeline.load_model("none", ranks, **paths)
            return loaded

        return load

    def test_more_are_refused(self, load_model, export_of):
        assert load_model(export_of(), 2) == ["transformer", "text_encoder"]
        assert load_model(export_of(), 1) and load_model(export_of(), 2)
        assert refusal(DeviceError, load_model, export_of(), 4) == (
            f"{export_of()}: it needs 4 cores, and the first pipeline of this process started the runtime with 2; load"
            " it in a process of its own, or set NEURON_RT_VISIBLE_CORES=0-3 before the first load"
        )

    def test_fewer_are_fine(self, load_model, export_of):
        assert load_model(export_of(), 4) and load_model(export_of(), 2)
