"""What a C-STORE is answered (DICOM PS3.4 table B.2-1)."""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True)
class Answer:
    """A C-STORE's status, and the Error Comment (0000,0902) that says why."""

    status: int
    comment: str = ""

    @property
    def short_comment(self) -> str:
        """The comment as it fits: ASCII, 64 characters (PS3.7 Annex C)."""
        return self.comment.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:64]


def out_of_resources(error: Exception) -> Answer:
    """The disk or the database could not take it: the sender keeps the instance and tries again."""
    what = error.strerror if isinstance(error, OSError) and error.strerror else "database not available"
    return Answer(OUT_OF_RESOURCES, what)
