"""Chapter 8: the objects that the node makes."""

from __future__ import annotations

from node.conformance.markdown import named, table
from node.derive import capture, enhanced, header
from node.derive.provenance import MANUFACTURER, PRIVATE_CREATOR, PRIVATE_GROUP


def chapter() -> str:
    """What is in them that tells them apart, and their private attributes."""
    private = [
        (f"({PRIVATE_GROUP:04X},xx{element:02X})", "LO", meaning)
        for element, (meaning, _) in header.PRIVATE_ATTRIBUTES.items()
    ]
    return f"""## 8 Objects

Each result is one instance in a series of its own, in the study and the Frame of Reference of the low-dose series,
frame by frame at the places of its slices, in Explicit VR Little Endian. UIDs are under 2.25 and follow from the
study, the inputs, the weights and the kind of object alone: what is made again has the same ones, though after an
upgrade its bytes may differ. Other inputs make a further series; an earlier one stays where it is.

{table(("", named(enhanced.SOP_CLASS), named(capture.SOP_CLASS)), [
    ("in `config.toml`", f"`{enhanced.KIND}`", f"`{capture.KIND}`"),
    ("SOP Class UID", f"`{enhanced.SOP_CLASS}`", f"`{capture.SOP_CLASS}`"),
    ("Image Type (0008,0008)", _values(enhanced.IMAGE_TYPE), _values(capture.IMAGE_TYPE)),
    ("Series Number (0020,0011)", f"that of the low dose + {enhanced.SERIES_NUMBER_OFFSET}",
     f"that of the low dose + {capture.SERIES_NUMBER_OFFSET}"),
    ("Burned In Annotation (0028,0301)", "NO", f"YES: {capture.LABEL} in each frame"),
    ("Pixel values", "signal of the low-dose series after N4, 0 outside the brain", "the same, as stored values"),
])}

Of both:

{table(("Attribute", "Value"), [
    ("Series Description (0008,103E)", header.SERIES_DESCRIPTION),
    ("Manufacturer (0008,0070), Manufacturer's Model Name (0008,1090)", MANUFACTURER),
    ("Device Serial Number (0018,1000)", "SHA-256 of the weights"),
    ("Content Qualification (0018,9004)", "RESEARCH"),
    ("Image Comments (0020,4000)", "that it is virtual, by which network, from what, and what quality control says"),
    ("Contributing Equipment Sequence (0018,A001)",
     "the scanner (Acquisition Equipment), this node (Processing Equipment)"),
    ("Source Image Evidence and Referenced Series Sequence", "every instance that was an input"),
    ("Patient, Patient Study, General Study attributes, request attributes", "as in the low-dose series"),
])}

Both are Standard Extended SOP Classes (PS3.2 section 7.3): the Enhanced MR has Repetition, Echo and Inversion Time,
Flip Angle and the window at the top level too, the Secondary Capture Content Qualification and Source Image Evidence,
both the private attributes. The Derivation Code Sequence has the code VIRTUAL-T1CE of the coding scheme
{header.CODING_SCHEME}, which is ours.

Private attributes, creator `{PRIVATE_CREATOR}`:

{table(("Tag", "VR", "Meaning"), private)}

An object of this node that comes back is known by Manufacturer, private creator or Contributing Equipment, kept, and
never an input; a Secondary Capture comes back only where `receiver.extra_sop_classes` has its SOP class."""


def _values(values: list[str]) -> str:
    return "\\\\".join(values)
