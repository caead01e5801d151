"""Fields that release 0.1.0 did not have need a level, or its workers would ignore them."""

from dataclasses import fields

import pytest

from app.domain.job import levels
from app.store.job.records import JobRecord
from workers.engines.base import RenderSpec

# What workers of release 0.1.0 heed.
FIRST = {"prompt", "seed", "frames", "fps", "size", "steps", "motion", "loop"}


def test_every_later_field_of_a_render_has_a_level():
    assert {field.name for field in fields(RenderSpec)} - FIRST <= levels.NEEDS.keys()


def test_levels_are_of_columns_and_spoken_by_this_release():
    assert levels.NEEDS.keys() <= {field.name for field in fields(JobRecord)}
    assert all(0 < level <= levels.SPEAKS for level in levels.NEEDS.values())


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ({}, 0),
        ({"prompt": "waves"}, 0),
        ({"depth": ""}, 0),
        ({"depth": None, "tint": False}, 0),
        ({"depth": "far"}, 1),
        ({"depth": "far", "tint": True}, 2),
    ],
)
def test_a_job_needs_the_highest_level_of_the_fields_that_it_uses(monkeypatch, given, level):
    monkeypatch.setattr(levels, "NEEDS", {"depth": 1, "tint": 2})
    assert levels.needed(given) == level
