"""Our receiver alone, in a process that loads nothing else: what benchmarks.receive measures.

    python -m benchmarks.serve_receiver config.toml
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Receive until SIGTERM."""
    # pydicom loads this codec where it is installed, which takes 35 MB. What the node needs does not bring it; here the
    # tests' dicom2nifti did.
    sys.modules["gdcm"] = None  # type: ignore[assignment]
    from node.associations import Associations
    from node.commit import Reports
    from node.database import open_database, ready
    from node.receive import Receiver
    from node.settings import load_settings

    settings = load_settings(Path(sys.argv[1]))
    engine = open_database(settings)
    ready(engine)
    receiver = Receiver(
        settings, engine, Associations(), on_closed=lambda: None, reports=Reports(settings, engine),
        tell=lambda request: None,
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # as node.service does
    receiver.start()
    signal.sigwait({signal.SIGTERM})
    receiver.stop()
    os._exit(0)


if __name__ == "__main__":
    main()
