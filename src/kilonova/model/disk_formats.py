"""What a disk's bytes may lead QEMU to, beside themselves: asked as they come in, and by each host that fetches them."""

from typing import Any


def check_safe(inspector: Any) -> None:
    """What oslo.utils' inspector knows, and what it does not.

    QEMU reads a VMDK's descriptor in its own way (block/vmdk.c): by the first `createType` in this spelling, over 10 KiB or
    to the first NUL; it follows its extents where the header counts no sectors, and a `parentFileNameHint` wherever it
    stands. Raises format_inspector's SafetyCheckFailed or ImageFormatError.
    """
    inspector.safety_check()
    if str(inspector) == "vmdk":
        from oslo_utils.imageutils.format_inspector import ImageFormatError  # takes 0.1 s to load

        if not inspector.has_region("header") or not inspector.virtual_size:
            raise ImageFormatError("a VMDK of no sectors is a list of other files")
        if b"\0" not in inspector.region("descriptor").data:
            raise ImageFormatError("the VMDK's descriptor has no end")
        if inspector.desc_text.count("createtype") != 1:
            raise ImageFormatError("the VMDK's descriptor has more than one type")
        if "parentfilenamehint" in inspector.desc_text:
            raise ImageFormatError("the VMDK has a parent")
