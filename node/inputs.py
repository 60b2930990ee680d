"""What a run over a study works on."""

from __future__ import annotations

import hashlib

from node.tables import Study


def digest_inputs(study: Study) -> str:
    """The identity of everything with a role: sha256 over SOP Instance UIDs and content digests."""
    lines = sorted(
        f"{series.role} {instance.sop_instance_uid} {instance.digest}"
        for series in study.series
        if series.role is not None
        for instance in series.instances
        if instance.current
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
