"""The role rules as configuration: what is wrong is refused with its name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from node.roles.rules import RoleRules


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"flair_tee": 3}, "flair_tee"), ({"flair_ti": [3000, 1000]}, "smaller number first"),
        ({"override": [{"role": "t1"}]}, "at least one condition"),
        ({"override": [{"role": "t1", "series_description": "("}]}, "regular expression"),
        ({"low_dose_max": 0.2}, "low_dose_max < full_dose_min"),
    ],
)  # fmt: skip
def test_wrong_rules_are_refused(table: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RoleRules.model_validate(table)
