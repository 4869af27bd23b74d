"""pixart-generate from the command to the pictures, on the emulator."""

import json
from pathlib import Path

import pytest

from tests.extras import needs
from tests.serving.conftest import alive, drawn_alone, family_of, running, wait_until

pytestmark = [pytest.mark.e2e, needs("ray")]
BOUND_S = 500
"""For a command; far more than it takes on a quiet machine."""
PROMPTS = [
    {"prompt": "a red cat"},
    {"prompt": "an astronaut riding a horse on mars, under two moons", "seed": 5},
    {"prompt": "refused", "height": 512},
    {"prompt": "a blue dog", "negative_prompt": "blurry"},
    {"seed": 1},
    {"prompt": "a green bird", "num_images_per_prompt": 2},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The user's folder: prompts, and files that would run in place of the library's."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    for name in ("json", "torch", "ray", "secrets", "colorsys", "pyarrow", "sitecustomize"):
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(77)\n"
        )
    return folder


@pytest.fixture(scope="module")
def drawn(export, folder) -> Path:
    """The pictures of a job, and the end of all that drew them."""
    command = ("pixart_generate", export, "--prompts", "prompts.jsonl", "out", "--num_inference_steps", 1)
    out = folder / "out"
    with running(*command, cwd=folder) as process:
        wait_until(lambda: (out / "metadata.jsonl").exists() or process.poll() is not None, BOUND_S, "a picture")
        family = family_of(process)
        output, errors = process.communicate(timeout=BOUND_S)
        wait_until(lambda: not alive(family), 30, f"the end of {alive(family)}")
    assert process.returncode == 3, (output, errors)
    assert errors.splitlines()[-1] == (
        "optimum-cli neuron pixart-generate: error: 2 could not be drawn; out/errors.jsonl says which, and why"
    )
    return out


def test_every_picture_is_there_once_and_the_others_are_reported_by_name(drawn):
    lines = [json.loads(line) for line in (drawn / "metadata.jsonl").read_text().splitlines()]
    names = ["000000000-0", "000000001-0", "000000003-0", "000000005-0", "000000005-1"]
    assert sorted(line["file_name"] for line in lines) == [f"images/000000/{name}.png" for name in names]
    assert sorted(path.name for path in drawn.rglob("*") if path.is_file()) == sorted(
        [*(f"{name}.png" for name in names), "metadata.jsonl", "errors.jsonl"]
    )
    errors = {line["row"]: line["error"] for line in map(json.loads, (drawn / "errors.jsonl").open())}
    assert errors.keys() == {2, 4}
    assert "512" in errors[2] and "256" in errors[2]
    assert errors[4] == "has no prompt"


def test_a_picture_is_what_the_pipeline_draws_alone(drawn, export):
    from tests.e2e.conftest import load_ours

    pipe = load_ours(export)
    for line in map(json.loads, (drawn / "metadata.jsonl").open()):
        alone = drawn_alone(pipe, line["prompt"], line["seed"], negative_prompt=line["negative_prompt"])
        assert (drawn / line["file_name"]).read_bytes() == alone, line["prompt"]


def test_nothing_of_the_users_folder_ran(drawn, folder):
    assert not (folder / "ran").exists(), (folder / "ran").read_text()
