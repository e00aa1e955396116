"""The image properties that choose a guest's virtual hardware from a list (Nova: `nova/objects/fields.py`)."""

from collections.abc import Mapping

CHOICES = {
    "hw_disk_bus": ("virtio", "scsi", "ide", "sata", "usb", "fdc"),
    "hw_cdrom_bus": ("ide", "sata", "scsi", "usb", "virtio"),
    "hw_vif_model": ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet"),
    "hw_video_model": ("cirrus", "vga", "virtio", "qxl", "bochs", "none"),
    "hw_scsi_model": (
        "virtio-scsi",
        "lsilogic",
        "lsisas1068",
        "lsisas1078",
        "ibmvscsi",
        "vmpvscsi",
        "buslogic",
        "auto",
    ),
    "hw_watchdog_action": ("none", "pause", "poweroff", "reset", "disabled"),
    "hw_pointer_model": ("usbtablet", "ps2mouse"),
    "hw_input_bus": ("usb", "virtio"),
    "hw_firmware_type": ("bios", "uefi"),
    "hw_rng_model": ("virtio",),
    "hw_rescue_device": ("disk", "cdrom"),
    "hw_rescue_bus": ("virtio", "scsi", "ide", "sata", "usb"),
}
# How the names of disks begin on each bus (Nova: blockinfo.get_dev_prefix_for_disk_bus).
DISK_PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd"}


def choice(properties: Mapping[str, str], name: str) -> str | None:
    """The property's value in lower case; None when it is not given. ValueError with the values it takes."""
    value = properties.get(name)
    if not value:
        return None
    if value.lower() not in CHOICES[name]:
        raise ValueError(f"the image property {name} is {value!r}; it can be {', '.join(CHOICES[name])}")
    return value.lower()
