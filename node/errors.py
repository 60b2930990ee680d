"""Errors whose text a person reads: in `studies show`, or at the end of a command."""


class StudyError(Exception):
    """This study cannot be processed as it is; repeating the step would not help. The text names cause and remedy."""


class CancelledError(Exception):
    """A person cancelled the study while it was being worked on."""


class CommandError(Exception):
    """A command cannot do what it was asked to; the text says why and what would help."""
