"""The C-STORE sub-operations of C-MOVE and C-GET (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE

from simulator.archive.index import StoredInstance
from simulator.archive.send import Peer, Responses, contexts_for

_SUCCESS, _PENDING, _CANCEL = 0x0000, 0xFF00, 0xFE00


class RetrieveEntity(AE):  # type: ignore[misc]  # pynetdicom has no types
    """The AE through which pynetdicom opens the association for the sub-operations of a C-MOVE.

    pynetdicom counts the sub-operations by what this association answers, and has no other place to make it lie.
    """

    def associate(self, *address: Any, feigned: Collection[str] = (), **options: Any) -> Any:
        """As of any AE; instances whose SOP Instance UID is among ``feigned`` succeed without being sent."""
        association = super().associate(*address, **options)
        association.dimse.msg_queue = Responses()
        send = association.send_c_store

        def send_or_feign(dataset: Dataset, **how: Any) -> Any:
            if dataset.SOPInstanceUID not in feigned:
                return send(dataset, **how)
            success = Dataset()
            success.Status = _SUCCESS
            return success

        association.send_c_store = send_or_feign
        return association


def move(
    event: Any, instances: Sequence[StoredInstance], destination: Peer, feigned: Sequence[StoredInstance]
) -> Iterator[Any]:
    """What pynetdicom asks of a C-MOVE handler: the destination, the number of sub-operations, then each."""
    options = {
        "contexts": contexts_for(instances), "ae_title": destination.ae_title,
        "feigned": {instance.sop_instance_uid for instance in feigned},
    }
    yield destination.host, destination.port, options
    yield from get(event, instances)


def get(event: Any, instances: Sequence[StoredInstance]) -> Iterator[Any]:
    """What pynetdicom asks of a C-GET handler: the number of sub-operations, then each."""
    yield len(instances)
    for instance in instances:
        if event.is_cancelled:
            yield _CANCEL, None
            return
        yield _PENDING, pydicom.dcmread(instance.path)
