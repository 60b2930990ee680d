"""The node's configuration: one TOML file, read once into frozen typed settings (DESIGN, Decisions).

One module for each part of a study's path, with the tables of config.toml that it reads; ``reading`` joins them.
"""

from node.settings.peers import (
    DeliverySettings,
    Destination,
    DicomWebDestination,
    DicomWebSource,
    DimseDestination,
    DimseSource,
    FolderDestination,
    PeerSettings,
    PriorSettings,
    RetrievalSettings,
    Source,
    TlsSettings,
)
from node.settings.processing import (
    CompletenessSettings,
    DerivedSettings,
    Kind,
    ModelSettings,
    WorkSettings,
)
from node.settings.reading import DEFAULT_CONFIG, ConfigurationError, Settings, load_settings
from node.settings.receiving import HealthSettings, NodeSettings, ReceiverSettings, ReceiverTlsSettings

__all__ = [
    "DEFAULT_CONFIG",
    "CompletenessSettings",
    "ConfigurationError",
    "DeliverySettings",
    "DerivedSettings",
    "Destination",
    "DicomWebDestination",
    "DicomWebSource",
    "DimseDestination",
    "DimseSource",
    "FolderDestination",
    "HealthSettings",
    "Kind",
    "ModelSettings",
    "NodeSettings",
    "PeerSettings",
    "PriorSettings",
    "ReceiverSettings",
    "ReceiverTlsSettings",
    "RetrievalSettings",
    "Settings",
    "Source",
    "TlsSettings",
    "WorkSettings",
    "load_settings",
]
