"""What a model is to this node."""

from __future__ import annotations

from enum import StrEnum


class Standing(StrEnum):
    """What a model is to this node."""

    SHIPPED = "shipped"
    """Came with the product; used where nothing better fits."""
    PROMOTED = "promoted"
    """Used, before shipped ones that take the same roles."""
    SHADOW = "shadow"
    """Runs beside the one that is used; its results are compared and thrown away."""
    RETIRED = "retired"
    """Not used, not even where a rule or the configuration names it."""
