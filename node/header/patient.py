"""What an instance says of its patient that rules may ask for: the age, and the part of the body."""

from __future__ import annotations

import re
from datetime import datetime

from node.header.elements import Elements
from node.header.frames import Macros

TAGS = ("PatientAge", "PatientBirthDate", "StudyDate", "BodyPartExamined", "AnatomicRegionSequence")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def age_years(elements: Elements) -> int | None:
    """Completed years by Patient's Age (0010,1010), else from birth date to study date; None when neither tells."""
    written = _AGE.fullmatch(elements.text("PatientAge").upper())
    if written is not None:
        return int(int(written[1]) / _PER_YEAR[written[2]])
    try:
        born, made = (
            datetime.strptime(elements.text(keyword), "%Y%m%d").date() for keyword in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:  # absent, or no date
        return None
    years = made.year - born.year - ((made.month, made.day) < (born.month, born.day))
    return years if years >= 0 else None


def body_part(elements: Elements, macros: Macros) -> str:
    """Body Part Examined (0018,0015), else the Anatomic Region in words: of the instance, or of its first frame."""
    regions = [
        *elements.items("AnatomicRegionSequence"),
        *(region for frame in macros.items("FrameAnatomySequence") for region in frame.items("AnatomicRegionSequence")),
    ]
    return elements.text("BodyPartExamined") or next((text for one in regions if (text := one.text("CodeMeaning"))), "")
