"""The one error that belongs to a study: its text is what the PACS administrator reads in `studies show`."""


class StudyError(Exception):
    """This study cannot be processed as it is; repeating the step would not help. The text names cause and remedy."""


class CancelledError(Exception):
    """A person cancelled the study while it was being worked on."""
