"""Prompt files as pictures."""

import pytest

from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.serving.generate.prompts import read_prompts
from optimum_pixart_neuron.serving.generate.rows import Planned, RowDefaults, Unusable, batches, plan
from optimum_pixart_neuron.serving.picture import Kind, seed_of

DEFAULTS = RowDefaults(height=32, width=64)


def rows_of(path, ignore_others=False) -> list:
    return list(read_prompts(str(path), split="train", revision=None, ignore_others=ignore_others))


def planned_of(rows) -> list:
    return list(plan(rows, DEFAULTS, ".png"))


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\r\n\n  \na dog 🐕\n".encode())
    assert rows_of(file) == [{"prompt": "a cat"}, {"prompt": "a dog 🐕"}]


def test_csv_parquet_and_json_lines_say_the_same(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs the extra serve")
    from pyarrow import parquet

    (tmp_path / "a.csv").write_text('prompt,seed,guidance_scale\n"a cat, red",7,\na dog,,2.5\n')
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "a cat, red", "seed": 7}\n{"prompt": "a dog", "seed": null, "guidance_scale": 2.5}\n'
    )
    table = {"prompt": ["a cat, red", "a dog"], "seed": [7, None], "guidance_scale": [None, 2.5]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    planned = [planned_of(rows_of(tmp_path / f"a{suffix}")) for suffix in (".csv", ".jsonl", ".parquet")]
    assert planned[0] == planned[1] == planned[2]
    assert [each.picture.seed for each in planned[0]] == [7, seed_of(0, 1)]
    assert [each.picture.kind.guidance_scale for each in planned[0]] == [4.5, 2.5]


def test_columns_that_are_no_argument_are_refused_with_the_nearest_or_left_out(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "a cat"}\n{"prompt": "a dog", "guidence_scale": 2}\n')
    with pytest.raises(InvalidExportOption, match="unknown column guidence_scale; did you mean guidance_scale?"):
        rows_of(file)
    assert rows_of(file, ignore_others=True) == [{"prompt": "a cat"}, {"prompt": "a dog"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.txt", b"x" * (1 << 20), "a line is longer"),
        ("a.csv", b'prompt\n"' + b"x" * (1 << 21), "cannot be read"),
        ("a.parquet", b"PAR1 or not", "cannot be read"),
        ("a.doc", b"", "the name must end in .txt, .jsonl, .csv, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, content, said):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra serve")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidExportOption, match=said):
        rows_of(tmp_path / name)
    with pytest.raises(InvalidExportOption, match="there is no such file"):
        rows_of(tmp_path / "missing.txt")


UNUSABLE = [
    ("{", "is no JSON"),
    ("[1]", "is no JSON object"),
    ("[" * 100_000, "is no JSON"),
    ('{"seed": 1}', "has no prompt"),
    ('{"prompt": 3}', "prompt 3"),
    ('{"prompt": "\\ud800"}', "prompt"),
    ('{"prompt": "a", "seed": -1}', "seed -1"),
    ('{"prompt": "a", "seed": "x"}', "seed x"),
    ('{"prompt": "a", "num_images_per_prompt": 1000000000}', "num_images_per_prompt"),
    ('{"prompt": "a", "num_inference_steps": 0}', "num_inference_steps 0"),
    ('{"prompt": "a", "guidance_scale": NaN}', ""),
]


def test_a_row_that_names_no_picture_does_not_stop_the_others(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{line}\n{{"prompt": "good"}}\n' for line, _ in UNUSABLE))
    planned = planned_of(rows_of(file))
    assert [type(each) for each in planned] == [Unusable, Planned] * len(UNUSABLE)
    for (_, said), each in zip(UNUSABLE, planned[::2]):
        assert said in each.reason


def test_a_row_fixes_seeds_and_names_whatever_is_around_it():
    row = {"prompt": "a", "num_images_per_prompt": 3}
    alone = planned_of([{}, row])[1:]
    assert alone == planned_of(["broken", row, {"prompt": "b"}])[1:4]
    first = seed_of(0, 1)
    assert [each.picture.seed for each in alone] == [first, first + 1, first + 2]
    assert [each.file_name for each in alone] == [f"images/000000/000000001-{image}.png" for image in range(3)]
    assert planned_of([{"prompt": "a", "seed": 2**63 - 1, "num_images_per_prompt": 2}])[1].picture.seed == 0


def test_pictures_of_one_kind_go_together():
    steps = [20, 5, 20, 20, 5, 20, 20]
    planned = planned_of([{"prompt": str(i), "num_inference_steps": n} for i, n in enumerate(steps)])
    made = [[int(each.picture.prompt) for each in batch] for batch in batches(planned, 3)]
    assert made == [[0, 2, 3], [1, 4], [5, 6]]
    assert planned[0].picture.kind == Kind(32, 64, 20, 4.5)


def test_the_seeds_of_rows_never_change():
    """Somebody's pictures depend on them."""
    assert [seed_of(0, 0), seed_of(0, 1)] == [3940750165, 4269095081]
