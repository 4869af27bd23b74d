"""What `save_pretrained` and `push_to_hub` of a loaded pipeline write: the export, with the scheduler of now."""

import json
import shutil
from pathlib import Path

import pytest
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, SchedulerMixin

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import ArtifactError, InvalidArgument
from optimum_pixart_neuron.files import records_of
from tests.hub.exports import content, make_export

from .stand_in import load_stand_in


@pytest.fixture
def pipe(export_of, tmp_path):
    """Of a folder of its own."""
    return load_stand_in(shutil.copytree(export_of(), tmp_path / "own"))


def saved_scheduler(folder) -> SchedulerMixin:
    name = json.loads((folder / "model_index.json").read_text())["scheduler"]
    assert name[0] == "diffusers"
    return load_stand_in(folder).scheduler


def test_an_unchanged_pipeline_is_copied_as_it_is(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "copy")
    assert content(tmp_path / "copy") == content(tmp_path / "own")


def test_a_swapped_scheduler_is_saved(pipe, tmp_path):
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, beta_end=0.03)
    pipe.save_pretrained(tmp_path / "copy")
    scheduler = saved_scheduler(tmp_path / "copy")
    assert type(scheduler) is EulerDiscreteScheduler and scheduler.config.beta_end == 0.03
    assert type(saved_scheduler(tmp_path / "own")) is DPMSolverMultistepScheduler


def test_other_settings_of_the_same_scheduler_are_saved(pipe, tmp_path):
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe.save_pretrained(tmp_path / "copy")
    assert saved_scheduler(tmp_path / "copy").config.use_karras_sigmas


def test_the_manifest_knows_the_swapped_scheduler(pipe, tmp_path):
    """Of a folder with a manifest, by which a load would find the scheduler changed."""
    folder = tmp_path / "listed"
    make_export(folder)
    pipe.model_save_dir = folder
    pipe.scheduler = EulerDiscreteScheduler()
    pipe.save_pretrained(tmp_path / "copy")
    files = Manifest.read(tmp_path / "copy").files
    assert files == records_of(tmp_path / "copy", files, title="")
    assert files != Manifest.read(folder).files


def test_it_knows_its_folder_wherever_the_process_goes(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = load_stand_in(Path("own"))
    (tmp_path / "elsewhere" / "own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    relative.save_pretrained("copy")
    assert content(tmp_path / "elsewhere" / "copy") == content(tmp_path / "own")


@pytest.mark.parametrize("place", [None, 3, ""])
def test_no_place_to_save_into_is_not_the_current_folder(pipe, place):
    with pytest.raises(InvalidArgument, match="save_directory: expected a folder, given"):
        pipe.save_pretrained(place)


@pytest.mark.parametrize("scheduler", [None, EulerDiscreteScheduler])
def test_no_scheduler(pipe, tmp_path, scheduler):
    pipe.scheduler = scheduler
    with pytest.raises(InvalidArgument, match="scheduler: expected a scheduler of diffusers, given"):
        pipe("a red cat")
    with pytest.raises(InvalidArgument, match="is not diffusers' own"):
        pipe.save_pretrained(tmp_path / "copy")


def test_its_own_folder_is_not_damaged(pipe, tmp_path):
    before = content(tmp_path / "own")
    pipe.save_pretrained(tmp_path / "own")
    assert content(tmp_path / "own") == before
    with pytest.raises(ArtifactError, match="lie in each other"):
        pipe.save_pretrained(tmp_path / "own" / "copy")
    assert content(tmp_path / "own") == before
    pipe.scheduler = EulerDiscreteScheduler()
    pipe.save_pretrained(tmp_path / "own")
    assert type(saved_scheduler(tmp_path / "own")) is EulerDiscreteScheduler
    changed = {name for name, held in content(tmp_path / "own").items() if before[name] != held}
    assert changed == {"model_index.json", "scheduler/scheduler_config.json"}


def test_what_is_refused(pipe, tmp_path):
    with pytest.raises(InvalidArgument, match="^variant: no argument of save_pretrained$"):
        pipe.save_pretrained(tmp_path / "copy", variant="fp16")

    class OwnScheduler(EulerDiscreteScheduler):
        pass

    pipe.scheduler = OwnScheduler()
    with pytest.raises(InvalidArgument, match="OwnScheduler is not diffusers' own"):
        pipe.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


class TestPush:
    @pytest.fixture
    def pushed(self, monkeypatch):
        """Arguments of the pushes."""
        calls = []

        def push(save_directory, repository_id, private=None, *, changed=None, **options):
            given = {name: value for name, value in {"private": private, **options}.items() if value}
            calls.append((save_directory, repository_id, sorted(changed or {}), given))
            return "address"

        monkeypatch.setattr("optimum_pixart_neuron.runtime.push_forms.push", push)
        return calls

    def test_diffusers_form(self, pipe, pushed):
        assert pipe.push_to_hub("me/x") == "address"
        pipe.push_to_hub(repo_id="me/x", private=True, commit_message="m", token="t")
        pipe.push_to_hub(repository_id="me/x")
        pipe.scheduler = EulerDiscreteScheduler()
        pipe.push_to_hub("me/x")
        own, changed = pipe.model_save_dir, ["model_index.json", "scheduler/scheduler_config.json"]
        assert pushed == [
            (own, "me/x", [], {}),
            (own, "me/x", [], {"private": True, "commit_message": "m", "token": "t"}),
            (own, "me/x", [], {}),
            (own, "me/x", changed, {}),
        ]

    def test_the_hosts_form(self, pipe, pushed):
        pipe.push_to_hub("folder", "me/x", True)
        pipe.push_to_hub("folder", repository_id="me/x")
        pipe.push_to_hub(save_directory="folder", repository_id="me/x", endpoint="http://127.0.0.1")
        type(pipe).push_to_hub("folder", "me/x")
        assert [call[:3] for call in pushed] == [("folder", "me/x", [])] * 4
        assert [call[3] for call in pushed] == [{"private": True}, {}, {"endpoint": "http://127.0.0.1"}, {}]

    def test_refused(self, pipe, pushed):
        for arguments, message in (
            ({"repo_id": "me/x", "comit_message": "m"}, "comit_message: .*did you mean commit_message?"),
            ({"repo_id": "me/x", "create_pr": True}, "create_pr: no argument of push_to_hub"),
            ({}, "name one repository"),
        ):
            with pytest.raises(InvalidArgument, match=message):
                pipe.push_to_hub(**arguments)
        assert pushed == []

    def test_saved_and_pushed(self, pipe, pushed, tmp_path):
        pipe.save_pretrained(tmp_path / "copy", push_to_hub=True, private=True)
        pipe.save_pretrained(tmp_path / "copy", push_to_hub=True, repository_id="me/x")
        assert [call[1] for call in pushed] == ["copy", "me/x"]
