"""The one way a series is refused."""

from __future__ import annotations


class ConversionError(ValueError):
    """A series that cannot be converted rightly: where it is wrong, what is wrong there, and what to do about it."""

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}. {remedy}.")
        self.where, self.what, self.remedy = where, what, remedy
