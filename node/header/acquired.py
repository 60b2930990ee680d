"""When the signal of an instance was measured."""

from __future__ import annotations

import re
from datetime import datetime

from node.header.elements import Elements
from node.header.frames import Macros

TAGS = (
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "SeriesDate",
    "SeriesTime",
)  # fmt: skip
_DATETIME = re.compile(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(\.\d{1,6})?")


def acquired(elements: Elements, macros: Macros) -> str:
    """When the signal was measured, as far as it is written: ISO 8601, scanner's local time, or ""."""
    frame = macros.text("FrameContentSequence", "FrameAcquisitionDateTime")
    for written in (
        elements.text("AcquisitionDateTime") or frame,
        *(elements.text(kind + "Date") + elements.text(kind + "Time") if elements.text(kind + "Date") else ""
          for kind in ("Acquisition", "Content", "Series")),
    ):  # fmt: skip
        parts = _DATETIME.match(written.replace(":", ""))
        # A date alone would put the series at midnight, before all others.
        if parts is None or parts.group(2) is None:
            continue
        day, hour, minute, second, fraction = parts.groups(default="")
        text = f"{day}{hour}{minute or '00'}{min(int(second or 0), 59):02d}{(fraction or '.0'):0<7}"
        try:
            return datetime.strptime(text, "%Y%m%d%H%M%S.%f").isoformat()
        except ValueError:
            continue  # an impossible date: the next source may be right
    return ""
