"""Which way leads to a source: C-MOVE, C-GET or DICOMweb, as its [[source]] says."""

from __future__ import annotations

from node.deliver import peer_of
from node.dicomweb import server_of
from node.get import GetScu
from node.query import MoveScu, QueryScu
from node.receive import storage_classes
from node.settings import DicomWebSource, Settings, Source
from node.source import Retrieval, Search
from node.taker import Taker
from node.wado import QidoSearch, WadoSource


def way_to_ask(source: Source, settings: Settings) -> Search:
    """To find out what it holds. Raises SendError when the files of its TLS configuration cannot be used."""
    retrieval = settings.retrieval
    if isinstance(source, DicomWebSource):
        return QidoSearch(server_of(source, retrieval.timeout_seconds), retrieval.total_seconds)
    return QueryScu(peer_of(source, settings.node.ae_title, retrieval.timeout_seconds), retrieval.total_seconds)


def way_to_retrieve(source: Source, settings: Settings, taker: Taker) -> Retrieval:
    """To find out and fetch; what comes over our own connection goes to ``taker``. Raises SendError as above."""
    retrieval, classes = settings.retrieval, storage_classes(settings)
    if isinstance(source, DicomWebSource):
        return WadoSource(server_of(source, retrieval.timeout_seconds), retrieval.total_seconds, classes, taker)
    peer = peer_of(source, settings.node.ae_title, retrieval.timeout_seconds)
    if source.retrieve == "c-get":
        return GetScu(peer, retrieval.total_seconds, classes, settings.receiver.maximum_pdu, taker)
    return MoveScu(peer, retrieval.total_seconds, settings.node.ae_title)
