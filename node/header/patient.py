"""What an instance says of its patient: the age and the part of the body, for rules; whose name it is, to compare."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import datetime

from node.header.elements import Elements
from node.header.frames import Macros

TAGS = ("PatientName", "PatientAge", "PatientBirthDate", "StudyDate", "BodyPartExamined", "AnatomicRegionSequence")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


# What one machine writes as ü, another writes as ue, and a third as u.
_UMLAUTS = {"ae": "a", "oe": "o", "ue": "u", "æ": "a", "ø": "o"}


def name_digest(elements: Elements) -> str:
    """Whose name Patient's Name (0010,0010) is, without telling it; "" where there is none to compare.

    Family and given name of the alphabetic group (PS3.5 section 6.2.1) count: how they are divided, cased, accented or
    transliterated differs between machines, and middle names, prefixes and suffixes are left out by some.
    """
    alphabetic = elements.text("PatientName").partition("=")[0]
    name = unicodedata.normalize("NFKD", "".join(alphabetic.split("^")[:2]).casefold())
    plain = "".join(letter for letter in name if letter.isalnum())
    for written, letter in _UMLAUTS.items():
        plain = plain.replace(written, letter)
    return hashlib.sha256(plain.encode()).hexdigest()[:16] if plain else ""


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
