"""The DICOM Conformance Statement (PS3.2), made from what the code proposes, accepts, answers and writes."""

from node.conformance.statement import statement

__all__ = ["statement"]
