"""Taking what a source sends over a connection that this node opened: as durable as what the receiver takes."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from node.associations import Associations
from node.receive.answer import CANNOT_UNDERSTAND, Answer
from node.receive.incoming import Incoming
from node.receive.store import Store
from node.source import is_uid

_SETTLE_SECONDS = 60.0


class Taker:
    """Stores what one attempt brings from ``sender``; a context manager.

    To the collector it is an association that brings the study: nothing is decided about that while it is open, and a
    ``whole`` one has ended with a release.
    """

    def __init__(self, store: Store, associations: Associations, sender: str) -> None:
        self._store = store
        self._associations = associations
        self._sender = sender

    def __enter__(self) -> Taker:
        self._associations.opened(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.settle(_SETTLE_SECONDS)  # what has no row yet, the collector would not see
        self._associations.closed(self)

    def take(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str,
        data_set: Iterable[memoryview | bytes],
    ) -> Answer:
        """One instance, its data set in fragments as they come. Success says that it is durable, as in a C-STORE
        response. Raises what ``data_set`` raises; then nothing of it is kept.
        """
        incoming = self.open(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        if incoming is None:
            return Answer(CANNOT_UNDERSTAND, "SOP Class, SOP Instance or Transfer Syntax UID is not a UID")
        try:
            for fragment in data_set:
                incoming.write(fragment)
        except BaseException:
            incoming.close()
            raise
        return self.keep(sop_class_uid, incoming)

    def open(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Incoming | None:
        """Where the data set of one instance is to be written; None when one of these is no UID."""
        if not all(is_uid(uid) for uid in (sop_class_uid, sop_instance_uid, transfer_syntax_uid)):
            return None
        return self._store.open(sop_class_uid, sop_instance_uid, transfer_syntax_uid)

    def keep(self, sop_class_uid: str, incoming: Incoming) -> Answer:
        """What ``take`` does with an instance that has come whole."""
        return self._store.keep(
            incoming, sop_class_uid, self._sender, lambda study_key: self._associations.brings(self, study_key)
        )

    def whole(self) -> None:
        """Nothing more will come of the study."""
        self._associations.released(self)
