"""A Storage SCP as pynetdicom's documentation writes it: the rival of benchmarks.receive. Nothing is durable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.modules["gdcm"] = None  # type: ignore[assignment] # 35 MB that only the tests have installed

from pynetdicom import AE, AllStoragePresentationContexts, evt  # noqa: E402
from pynetdicom.events import Event  # noqa: E402


def _store(event: Event, folder: Path) -> int:
    dataset = event.dataset
    dataset.file_meta = event.file_meta
    dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return 0x0000


def main() -> None:
    """Listen on the port given second and save into the folder given first."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    ae = AE("QUARTERDOSE")
    ae.maximum_pdu_size = 131072
    ae.maximum_associations = 25
    ae.supported_contexts = AllStoragePresentationContexts
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, _store, [folder])])


if __name__ == "__main__":
    main()
