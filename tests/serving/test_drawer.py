"""What is drawn together is what the pipeline draws alone; a drawing that is stopped leaves nothing behind."""

import os
from dataclasses import replace

import pytest
import torch

from optimum_pixart_neuron.errors import DeviceError
from optimum_pixart_neuron.serving.drawer import CannotDraw, Drawer, DrawerBroken, order_visible_cores
from optimum_pixart_neuron.serving.encoding import FORMATS, encode
from optimum_pixart_neuron.serving.exported import open_export
from optimum_pixart_neuron.serving.picture import Kind, Picture
from tests.serving.conftest import drawn_alone
from tests.serving.painter import Painter, exported, picture

PROMPTS = ["a red cat", "an astronaut riding a horse on mars, under two moons", "x", "a blue dog in the snow"]


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def drawer(export):
    """Loaded on two cores of the emulator, or of an instance."""
    from tests.e2e.conftest import load_ours

    return Drawer(open_export(str(export)), load_ours(export))


def pictures_of(kind: Kind) -> list[Picture]:
    return [
        Picture(prompt=prompt, negative_prompt="blurry" * (seed % 2), seed=seed, kind=kind)
        for seed, prompt in enumerate(PROMPTS)
    ]


@pytest.mark.e2e
@pytest.mark.soak
def test_what_an_export_draws_is_read_from_its_folder(drawer, export):
    assert drawer.exported.sizes == ((256, 256),)
    assert (drawer.exported.batch, drawer.exported.cores, drawer.exported.guided) == (4, 2, True)
    assert drawer.exported.name == export.name
    assert drawer.exported.takes_interval


@pytest.mark.e2e
def test_a_picture_has_the_same_bytes_at_every_place_and_alone(drawer):
    pictures = pictures_of(Kind(256, 256, 1, 4.5))
    files: list[set[bytes]] = [set() for _ in pictures]
    for place in range(4):
        together = [*pictures[place:], *pictures[:place]]
        for one, image in zip(together, drawer.draw(together)):
            files[one.seed].add(encode(image, "png"))
    for one in pictures:
        alone = drawn_alone(drawer._pipeline, one.prompt, one.seed, negative_prompt=one.negative_prompt)
        assert files[one.seed] == {alone}, f"{one.prompt} depends on its neighbours"
    assert len(set.union(*files)) == 4


@pytest.mark.e2e
def test_guidance_in_a_part_of_the_steps_is_the_pipelines(drawer):
    one = pictures_of(Kind(256, 256, 2, 4.5, (0.0, 0.5)))[0]
    call = {"num_inference_steps": 2, "guidance_interval": (0.0, 0.5)}
    alone = drawn_alone(drawer._pipeline, one.prompt, one.seed, **call)
    (drawn,) = drawer.draw([one])
    (guided,) = drawer.draw([replace(one, kind=Kind(256, 256, 2, 4.5))])
    assert encode(drawn, "png") == alone != encode(guided, "png")


@pytest.mark.e2e
def test_a_drawing_is_stopped_between_steps_and_the_next_is_not_affected(drawer):
    one = pictures_of(Kind(256, 256, 3, 4.5))[:1]
    done: list[int] = []

    def stop(step: int) -> None:
        done.append(step)
        if step == 2:
            raise Stop

    undisturbed = encode(drawer.draw(one)[0], "png")
    with pytest.raises(Stop):
        drawer.draw(one, stop)
    assert done == [1, 2]
    assert encode(drawer.draw(one)[0], "png") == undisturbed


@pytest.mark.e2e
def test_a_size_that_is_not_compiled_is_refused_and_nothing_breaks(drawer):
    with pytest.raises(CannotDraw, match="512 x 256 px .* made at .*, compiled is 256 x 256 px"):
        drawer.draw(pictures_of(Kind(512, 256, 1, 4.5))[:1])
    assert drawer.problem() is None


def test_a_failing_pipeline_is_told_from_a_refusal_in_one_line():
    drawer = Drawer(exported(), Painter())
    with pytest.raises(CannotDraw, match="^prompt: this one is refused$"):
        drawer.draw([picture("refuse")])
    with pytest.raises(DrawerBroken, match="^RuntimeError: the device failed$"):
        drawer.draw([picture("break")])


@pytest.mark.parametrize(
    ("given", "written"),
    [("3,0,1,2", "0-3"), ("6,5,4,7", "4-7"), ("1,0", "0-1"), ("3", "3"), ("0-7", "0-7"), ("", "")],
)
def test_cores_that_ray_gives_are_written_as_the_runtime_reads_them(monkeypatch, given, written):
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", given)
    order_visible_cores()
    assert os.environ["NEURON_RT_VISIBLE_CORES"] == written


def test_cores_with_a_gap_are_refused(monkeypatch):
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "0,1,4,5")
    with pytest.raises(DeviceError, match="NEURON_RT_VISIBLE_CORES=0,1,4,5"):
        order_visible_cores()


def test_each_format_is_what_its_name_says():
    image = Painter.paint("a", "", torch.Generator(), 32, 64)
    starts = {"png": b"\x89PNG", "jpg": b"\xff\xd8", "webp": b"RIFF"}
    assert {name: encode(image, name)[: len(starts[name])] for name in FORMATS} == starts
