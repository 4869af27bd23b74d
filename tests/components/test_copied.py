"""Tokenizer and scheduler: which classes and files are loaded, and that nothing else ever runs."""

import copy
import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest

from optimum_pixart_neuron.components.scheduler.scheduler import Scheduler
from optimum_pixart_neuron.components.tokenizer.tokenizer import Tokenizer, last_token
from optimum_pixart_neuron.errors import CheckpointError, OutputFull

from ..checkpoints import rewrite, saved_by_transformers_5

TEXT = "a photo of  an astronaut <extra_id_3> riding a horse! ﬁ ① é"
SLOW, FAST = ("transformers", "T5Tokenizer"), ("transformers", "T5TokenizerFast")
DPM = ("diffusers", "DPMSolverMultistepScheduler")
CODE = "import pathlib; pathlib.Path(__file__).with_name('it_ran').touch()\nclass Evil:\n    pass\n"


@pytest.fixture
def tokenizer(tiny_checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint / "tokenizer", tmp_path / "tokenizer"))


@pytest.fixture
def scheduler(tiny_checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint / "scheduler", tmp_path / "scheduler"))


@pytest.fixture(scope="module")
def ids(tiny_checkpoint) -> list[int]:
    from transformers import T5Tokenizer

    return T5Tokenizer.from_pretrained(tiny_checkpoint / "tokenizer")(TEXT).input_ids


def refusal(kind, folder: Path, entry=None) -> str:
    with pytest.raises(CheckpointError) as refused:
        kind.read(folder, entry, CheckpointError).load()
    message = str(refused.value)
    assert message.startswith(str(folder)) and message.isprintable()
    assert not list(folder.rglob("it_ran")) and "evil" not in sys.modules
    return message


class TestTokenizer:
    @pytest.mark.parametrize("entry", [SLOW, None, FAST])
    def test_a_whole_one_is_copied_and_loaded_as_it_is(self, tokenizer, ids, entry):
        part = Tokenizer.read(tokenizer, entry, CheckpointError)
        assert (part.class_name, part.notes) == ((entry or SLOW)[1], ())
        assert {name: (tokenizer / name).read_bytes() for name in part.source} == dict(part.source)
        if entry != FAST:
            assert part.contents == part.source
        loaded = part.load()
        assert loaded(TEXT).input_ids == ids == copy.deepcopy(loaded)(TEXT).input_ids
        assert last_token(loaded) == 311
        assert loaded.name_or_path == str(tokenizer)

    @pytest.mark.parametrize("entry", [SLOW, FAST, ("transformers", "TokenizersBackend"), None])
    def test_one_saved_by_transformers_5(self, tokenizer, ids, tmp_path, entry):
        """tokenizer.json alone under the name T5Tokenizer, with settings that transformers 4.57 stumbles over."""
        from transformers import T5TokenizerFast

        saved_by_transformers_5(tokenizer)
        part = Tokenizer.read(tokenizer, entry, CheckpointError)
        assert part.class_name == "T5TokenizerFast"
        part.write(tmp_path / "export")
        assert sorted(os.listdir(tmp_path / "export")) == ["tokenizer.json", "tokenizer_config.json"]
        assert part.load()(TEXT).input_ids == T5TokenizerFast.from_pretrained(tmp_path / "export")(TEXT).input_ids
        assert part.load()(TEXT).input_ids == ids
        assert part.load().model_max_length == 512

    def test_only_known_files_are_taken(self, tokenizer, tmp_path):
        for name in ("evil.py", "config.json", "chat_template.jinja", "__init__.py"):
            (tokenizer / name).write_text(CODE)
        (tokenizer / "more").mkdir()
        (tokenizer / "more" / "spiece.model").write_text("")
        part = Tokenizer.read(tokenizer, SLOW, CheckpointError)
        part.load()
        part.write(tmp_path / "export")
        assert set(os.listdir(tmp_path / "export")) <= set(Tokenizer.FILES)
        assert not list(tokenizer.rglob("it_ran"))

    def test_code_that_its_settings_name_is_not_run(self, tokenizer, ids, monkeypatch):
        """Nobody is asked whether to run it, either."""
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
        (tokenizer / "evil.py").write_text(CODE)
        evil = {"AutoTokenizer": ["evil.Evil", None], "AutoConfig": "evil.Evil"}
        rewrite(tokenizer / "tokenizer_config.json", auto_map=evil)
        (tokenizer / "config.json").write_text(json.dumps({"auto_map": evil, "model_type": "evil"}))
        part = Tokenizer.read(tokenizer, SLOW, CheckpointError)
        assert part.notes == ("the tokenizer's auto_map names code of its own, which is not run; T5's class loads it",)
        assert b"auto_map" not in part.contents["tokenizer_config.json"]
        assert part.load()(TEXT).input_ids == ids
        assert not list(tokenizer.rglob("it_ran"))

    @pytest.mark.parametrize(
        "entry",
        [
            *(("evil", "Evil"), ("diffusers", "DiffusionPipeline"), ("transformers.models.t5", "T5Tokenizer")),
            *(("transformers", name) for name in ("AutoTokenizer", "pipeline", "T5Tokenizer\x1b[2J")),
        ],
    )
    def test_other_classes(self, tokenizer, entry):
        assert "is no tokenizer of T5; no other code is loaded" in refusal(Tokenizer, tokenizer, entry)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"extra_ids": 10**9}, "extra_ids: Input should be less than or equal to 1000"),
            ({"extra_ids": "100"}, "extra_ids: Input should be a valid integer"),
            ({"eos_token": 1}, "eos_token"),
            ({"sp_model_kwargs": {"model_file": "/dev/zero"}}, "sp_model_kwargs.model_file: Extra inputs"),
            ({"added_tokens_decoder": {"1" * 40: {"content": "x"}}}, "added_tokens_decoder"),
            ({"added_tokens_decoder": {"5": "x"}}, "added_tokens_decoder.5"),
            ({"model_max_length": "long"}, "model_max_length"),
            ({"padding_side": "top"}, "padding_side: Input should be 'left' or 'right'"),
            ({"tokenizer_class": ["evil", "Evil"]}, "tokenizer_class"),
        ],
    )
    def test_values(self, tokenizer, changes, reason):
        rewrite(tokenizer / "tokenizer_config.json", **changes)
        assert f"tokenizer_config.json: {reason}" in refusal(Tokenizer, tokenizer, SLOW)

    def test_paths_in_its_settings_are_not_opened(self, tokenizer, ids, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        names = ("vocab_file", "tokenizer_file", "special_tokens_map_file", "name_or_path")
        rewrite(tokenizer / "tokenizer_config.json", **dict.fromkeys(names, str(tmp_path / "pipe")))
        assert Tokenizer.read(tokenizer, SLOW, CheckpointError).load()(TEXT).input_ids == ids

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda file: file.update(model={"type": "BPE", "vocab": []}), "model.type"),
            (lambda file: file["model"].update(vocab={}), "model.vocab"),
            (lambda file: file.clear(), "tokenizer.json has no model"),
            (lambda file: file["model"].update(unk_id=10**9), "T5TokenizerFast cannot be loaded"),
            (lambda file: file["model"].update(vocab=[["a", "b"]]), "T5TokenizerFast cannot be loaded"),
            (
                lambda file: file.update(
                    normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a"}
                ),
                "normalizer has the regular expression (a+)+$, which T5's does not have",
            ),
            (lambda file: file.update(pre_tokenizer={"type": "Split"}), "pre_tokenizer has the step Split"),
            (lambda file: file.update(decoder={"type": {"a": 1}}), "decoder has the step {'a': 1}"),
            (lambda file: file.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), ""),
        ],
    )
    def test_a_fast_one_of_other_parts(self, tokenizer, change, reason):
        saved_by_transformers_5(tokenizer)
        file = json.loads((tokenizer / "tokenizer.json").read_text())
        change(file)
        (tokenizer / "tokenizer.json").write_text(json.dumps(file))
        assert reason in refusal(Tokenizer, tokenizer, SLOW)

    def test_other_things_than_files(self, tokenizer, tmp_path):
        model = tokenizer / "spiece.model"
        content = model.read_bytes()
        (tmp_path / "elsewhere").write_bytes(content)
        for make, reason in (
            (lambda: os.mkfifo(model), "it is not a regular file"),
            (model.mkdir, "it is not a regular file"),
            (lambda: model.symlink_to(tmp_path / "elsewhere"), "it is a link to"),
            (lambda: model.symlink_to("/dev/zero"), "it is a link to"),
            (lambda: model.symlink_to(model), "Too many levels of symbolic links"),
            (lambda: model.write_bytes(bytes((16 << 20) + 1)), "it has more than 16777216 bytes"),
            (lambda: model.write_bytes(b"garbage"), "T5Tokenizer cannot be loaded"),
            (lambda: model.write_bytes(content[:5000]), "T5Tokenizer cannot be loaded"),
        ):
            shutil.rmtree(model) if model.is_dir() else model.unlink()
            make()
            assert reason in refusal(Tokenizer, tokenizer, SLOW)

    def test_the_links_of_the_download_cache(self, tokenizer, tmp_path):
        home = tmp_path / "models--me--pixart"
        snapshot = home / "snapshots" / ("0" * 40) / "tokenizer"
        snapshot.mkdir(parents=True)
        (home / "blobs").mkdir()
        for number, path in enumerate(tokenizer.iterdir()):
            shutil.copyfile(path, home / "blobs" / str(number))
            (snapshot / path.name).symlink_to(Path("..", "..", "..", "blobs", str(number)))
        Tokenizer.read(snapshot, SLOW, CheckpointError).load()
        (snapshot / "spiece.model").unlink()
        (snapshot / "spiece.model").symlink_to(tokenizer / "spiece.model")
        assert "it is a link to" in refusal(Tokenizer, snapshot, SLOW)

    def test_a_full_disk_is_not_the_checkpoints_fault(self, tokenizer, monkeypatch):
        def write(path, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        read = Tokenizer.read(tokenizer, SLOW, CheckpointError)
        monkeypatch.setattr(Path, "write_bytes", write)
        expected = f"{gettempdir()} has no room to load a T5Tokenizer: No space left on device; free it, or choose"
        with pytest.raises(OutputFull, match=f"^{re.escape(expected)} another folder with TMPDIR$"):
            read.load()


class TestScheduler:
    def test_a_whole_one_is_copied_and_loaded_as_it_is(self, scheduler, tmp_path):
        part = Scheduler.read(scheduler, DPM, CheckpointError)
        assert type(part.load()).__name__ == DPM[1]
        part.write(tmp_path / "export")
        (written,) = (tmp_path / "export").iterdir()
        assert written.read_bytes() == (scheduler / "scheduler_config.json").read_bytes()

    @pytest.mark.parametrize(
        "name", ["UniPCMultistepScheduler", "LCMScheduler", "PNDMScheduler", "DDPMScheduler", "EDMEulerScheduler"]
    )
    def test_other_schedulers_of_diffusers_are_taken(self, scheduler, name):
        assert type(Scheduler.read(scheduler, ("diffusers", name), CheckpointError).load()).__name__ == name

    @pytest.mark.parametrize(
        "entry",
        [
            *(("evil", "Evil"), ("diffusers.schedulers", "DDIMScheduler"), ("diffusers", "FlaxDDIMScheduler")),
            *(("diffusers", name) for name in ("DiffusionPipeline", "SchedulerMixin", "scheduling_ddim", "__class__")),
            *(("diffusers", name) for name in ("NoSuchScheduler", "a.b", "DDIMScheduler\n")),
        ],
    )
    def test_other_classes(self, scheduler, entry):
        (scheduler / "evil.py").write_text(CODE)
        evil = {"_class_name": ["evil", "Evil"], "unet": ["evil", "Evil"]}
        (scheduler / "model_index.json").write_text(json.dumps(evil))
        message = refusal(Scheduler, scheduler, entry)
        assert " is no scheduler of " in message or " needs " in message

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"num_train_timesteps": 10**9}, "num_train_timesteps"),
            ({"num_train_timesteps": "1000"}, "DPMSolverMultistepScheduler cannot be loaded"),
            ({"beta_start": {"a": 1}}, "beta_start"),
            ({"trained_betas": [0.1] * 20_000}, "trained_betas"),
            ({"trained_betas": [[0.1]]}, "trained_betas"),
            ({"prediction_type": "${HOME}"}, "DPMSolverMultistepScheduler cannot be loaded"),  # seen by a step alone
            ({"beta_schedule": "steep"}, "DPMSolverMultistepScheduler cannot be loaded"),
            ({"solver_order": "two"}, "DPMSolverMultistepScheduler cannot be loaded"),
            ({"a b": 1}, "should match pattern"),
        ],
    )
    def test_values(self, scheduler, changes, reason):
        rewrite(scheduler / "scheduler_config.json", **changes)
        assert reason in refusal(Scheduler, scheduler, DPM)

    @pytest.mark.parametrize("name", ["SCMScheduler", "FlowMatchLCMScheduler", "RePaintScheduler", "UnCLIPScheduler"])
    def test_those_that_cannot_draw_with_pixart_sigma(self, scheduler, name):
        """Their steps are not those that diffusers' pipeline makes."""
        assert f"{name} cannot be loaded: " in refusal(Scheduler, scheduler, ("diffusers", name))

    def test_steps_on_trial_leave_the_random_state(self, scheduler):
        import torch

        before = torch.random.get_rng_state()
        Scheduler.read(scheduler, ("diffusers", "DDPMScheduler"), CheckpointError).load()
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_the_class_of_a_folder_without_an_index(self, scheduler):
        rewrite(scheduler / "scheduler_config.json", _class_name="EulerDiscreteScheduler")
        assert Scheduler.read(scheduler, None, CheckpointError).class_name == "EulerDiscreteScheduler"
        rewrite(scheduler / "scheduler_config.json", _class_name=["evil", "Evil"])
        assert "_class_name" in refusal(Scheduler, scheduler)
