"""Levels: which workers heed which of a job's fields.

A worker of an earlier release ignores a field that it does not know, and would render something
else than was asked for. So each field that workers must heed, and that release 0.1.0 did not have,
has a level. A job needs the highest level among the fields that it uses, and only workers that
speak that level are offered it. Workers of 0.1.0 speak level 0. Decision 93.
"""

from collections.abc import Mapping

# What this release's workers speak. Raise it by one in the first release that adds to NEEDS.
SPEAKS = 1

# Column of `jobs` -> the level that it needs. A field that is absent, empty or false is not used.
NEEDS: Mapping[str, int] = {"negative_prompt": 1}


def needed(fields: Mapping[str, object]) -> int:
    """The level that a job with these fields needs."""
    return max((level for name, level in NEEDS.items() if fields.get(name)), default=0)
