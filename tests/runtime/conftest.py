"""Pipelines with stand-ins for their programs."""

import pytest

from .stand_in import Geometry, load_stand_in, stand_in_programs, write_export


@pytest.fixture(scope="session")
def export_of(tmp_path_factory):
    """`export_of(geometry)` -> folder, written once a geometry; read only."""
    made = {}

    def write_once(geometry: Geometry = Geometry()):  # noqa: B008  it is frozen
        if geometry not in made:
            made[geometry] = write_export(tmp_path_factory.mktemp("stand-ins") / "pixart", geometry)
        return made[geometry]

    return write_once


@pytest.fixture
def stand_in(export_of):
    """`stand_in(seconds=0.001, ranks=1, ...)` -> pipeline; its programs by component are `pipe.stand_ins`."""

    def load(seconds: float = 0.0, options: dict | None = None, **geometry):
        geometry = Geometry(**geometry)
        programs = stand_in_programs(geometry, seconds)
        pipe = load_stand_in(export_of(geometry), geometry, programs, **(options or {}))
        pipe.stand_ins = programs
        return pipe

    return load
