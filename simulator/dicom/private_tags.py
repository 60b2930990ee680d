"""Where each vendor keeps the b-value of its own accord (their conformance statements)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from simulator.scanner import Vendor

GE_OFFSET = 1_000_000_000  # added by GE since multi-b protocols


def add_b_value(ds: Dataset, vendor: Vendor, b: int) -> None:
    """The standard's Diffusion b-value and the vendor's private element, for one image."""
    ds.DiffusionBValue = float(b)
    if vendor is Vendor.SIEMENS:
        block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", str(b))
        block.add_new(0x0D, "CS", "NONE" if b == 0 else "ISOTROPIC")
    elif vendor is Vendor.GE:
        block = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x39, "IS", [str(GE_OFFSET + b), "8", "0", "0"])
        gradient = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
        for element in (0xBB, 0xBC, 0xBD):
            gradient.add_new(element, "DS", "0")  # combined images have no direction
    else:
        block = ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x03, "FL", float(b))
        block.add_new(0x04, "CS", "N" if b == 0 else "I")
