"""The folder of pictures: whole at every moment, of one job, of one run at a time."""

import errno
import json
from io import FileIO
from pathlib import Path

import pytest

from optimum_pixart_neuron.errors import InvalidExportOption, OutputFull
from optimum_pixart_neuron.serving.generate.gallery import Gallery
from optimum_pixart_neuron.serving.generate.rows import RowDefaults, plan
from tests.serving.painter import exported


def planned(count: int = 3, **defaults) -> list:
    return list(
        plan([{"prompt": f"cat {n}"} for n in range(count)], RowDefaults(height=32, width=64, **defaults), ".png")
    )


def fill(folder: Path, pictures: list, count: int) -> list:
    """Add the first missing pictures; returns what was missing."""
    with Gallery(folder, exported()) as gallery:
        missing = gallery.missing(pictures)
        for each in missing[:count]:
            gallery.add(each, f"file of {each.picture.prompt}".encode())
        return missing


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path):
    pictures = planned()
    assert fill(tmp_path / "out", pictures, 2) == pictures
    assert fill(tmp_path / "out", pictures, 2) == pictures[2:]
    assert fill(tmp_path / "out", pictures, 2) == []
    assert [line["file_name"] for line in lines(tmp_path / "out")] == [each.file_name for each in pictures]
    assert lines(tmp_path / "out")[0] == {
        "file_name": "images/000000/000000000-0.png",
        "prompt": "cat 0",
        "negative_prompt": "",
        "seed": 3940750165,
        "height": 32,
        "width": 64,
        "num_inference_steps": 20,
        "guidance_scale": 4.5,
        "row": 0,
        "export": "painter",
        "revision": "0123456789abcdef",
    }


@pytest.mark.parametrize("half", [b'{"file_name": "ima', b"x" * 200_000])
def test_half_a_line_and_half_a_file_of_a_killed_run_are_made_again(tmp_path, half):
    pictures = planned()
    fill(tmp_path, pictures, 1)
    with (tmp_path / "metadata.jsonl").open("ab") as file:
        file.write(half)
    second = tmp_path / pictures[1].file_name
    second.write_bytes(b"half of a picture without a line")
    second.with_name(f".{second.name}.unfinished").write_bytes(b"half")
    assert fill(tmp_path, pictures, 3) == pictures[1:]
    assert len(lines(tmp_path)) == 3
    assert second.read_bytes() == b"file of cat 1"
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_picture_that_somebody_removed_is_drawn_again_and_listed_once(tmp_path):
    pictures = planned()
    fill(tmp_path, pictures, 3)
    (tmp_path / pictures[1].file_name).unlink()
    (tmp_path / pictures[2].file_name).write_bytes(b"")
    assert fill(tmp_path, pictures, 3) == pictures[1:]
    assert sorted(line["row"] for line in lines(tmp_path)) == [0, 1, 2]


def test_pictures_of_another_job_are_neither_kept_nor_overwritten(tmp_path):
    fill(tmp_path, planned(), 2)
    before = (tmp_path / "metadata.jsonl").read_bytes()
    for other, said in [
        (planned(seed=5), "with seed 3940750165"),
        (planned(num_inference_steps=3), "with num_inference_steps 20, wanted is 3"),
        (planned(1), "000000001-0.png, which is not of this job"),
    ]:
        with pytest.raises(InvalidExportOption, match=said):
            fill(tmp_path, other, 3)
    assert (tmp_path / "metadata.jsonl").read_bytes() == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidExportOption, match="holds thesis.tex"):
        fill(tmp_path, planned(), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InvalidExportOption, match="name a folder"):
        fill(tmp_path / "thesis.tex", planned(), 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metadata.jsonl").write_text('{"text": "of another tool"}\n')
    with pytest.raises(InvalidExportOption, match="line 1 is not one of this command"):
        fill(tmp_path / "out", planned(), 1)


def test_two_runs_do_not_write_at_the_same_time(tmp_path):
    with Gallery(tmp_path, exported()):
        with pytest.raises(InvalidExportOption, match="another pixart-generate writes there"):
            Gallery(tmp_path, exported())
    Gallery(tmp_path, exported()).__exit__()


@pytest.mark.parametrize("at", ["picture", "line"])
def test_a_full_disk_leaves_nothing_half(tmp_path, monkeypatch, at):
    pictures = planned()
    fill(tmp_path, pictures, 1)
    before = (tmp_path / "metadata.jsonl").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "picture":
        monkeypatch.setattr(Path, "replace", full)
    else:
        real = Path.open

        class Full(FileIO):
            def write(self, content):
                return super().write(content[:7])

        def opened(path, mode="r", *args, **kwargs):
            return Full(path, mode) if mode == "ab" else real(path, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputFull, match="No space left on device; what is there is whole"):
        fill(tmp_path, pictures, 3)
    monkeypatch.undo()
    assert (tmp_path / "metadata.jsonl").read_bytes() == before
    assert not list(tmp_path.rglob("*.unfinished"))
    assert fill(tmp_path, pictures, 3) == pictures[1:]


def test_errors_are_those_of_the_last_run(tmp_path):
    with Gallery(tmp_path, exported()) as gallery:
        gallery.missing(planned())
        gallery.report(1, "has no prompt")
        assert gallery.errors == 1
    assert json.loads((tmp_path / "errors.jsonl").read_text()) == {
        "row": 1,
        "file_name": None,
        "prompt": None,
        "error": "has no prompt",
    }
    fill(tmp_path, planned(), 0)
    assert not (tmp_path / "errors.jsonl").exists()


@pytest.mark.seconds
def test_datasets_loads_the_folder(tmp_path):
    load_dataset = pytest.importorskip("datasets", reason="needs the extra serve").load_dataset
    from PIL import Image

    from optimum_pixart_neuron.serving.encoding import encode

    pictures = planned()
    with Gallery(tmp_path / "out", exported()) as gallery:
        gallery.missing(pictures)
        gallery.report(9, "has no prompt")
        for number, each in enumerate(pictures):
            gallery.add(each, encode(Image.new("RGB", (64, 32), (number, 0, 0)), "png"))
    loaded = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert sorted(loaded["prompt"]) == ["cat 0", "cat 1", "cat 2"]
    assert [row["image"].getpixel((0, 0))[0] for row in sorted(loaded, key=lambda row: row["row"])] == [0, 1, 2]
