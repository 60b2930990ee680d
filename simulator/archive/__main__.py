"""The archive as a process: ``python -m simulator.archive --folder DIR --route QUARTERDOSE@127.0.0.1:11112``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from simulator.archive.fault_text import FAULTS_HELP, parse_faults
from simulator.archive.send import Peer
from simulator.archive.server import Archive


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an archive until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator.archive", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A stand-in for a PACS: Storage, Query/Retrieve, storage commitment, routing, and faults to order.",
        epilog=FAULTS_HELP,
    )
    parser.add_argument("--ae-title", default="PACS")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=11113, help="0 takes a free one and prints it")
    parser.add_argument("--folder", type=Path, required=True, help="where instances are kept")
    parser.add_argument("--route", action="append", default=[], metavar="AE@host:port",
                        help="an AE that gets every study; may be given again")
    parser.add_argument("--peer", action="append", default=[], metavar="AE@host:port",
                        help="an AE to which C-MOVE may send and commitments are reported; routes are such already")
    parser.add_argument("--quiet-seconds", type=float, default=2.0,
                        help="a study is routed when nothing came for so long (default: 2)")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=NUMBER",
                        help="what shall go wrong, see below; may be given again")
    options = parser.parse_args(arguments)
    try:
        faults = parse_faults(options.fault)
        routes, peers = [Peer.parse(text) for text in options.route], [Peer.parse(text) for text in options.peer]
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("simulator").setLevel(logging.INFO)
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    archive = Archive(
        options.ae_title, options.port, options.folder, peers=peers, route_to=routes,
        quiet_seconds=options.quiet_seconds, host=options.host, faults=faults,
    )
    with archive:
        print(f"archive {archive.ae_title} ready on {options.host}:{archive.port}", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
