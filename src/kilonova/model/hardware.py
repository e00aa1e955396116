"""The image properties that Nova knows; those that choose hardware from a list (`nova/objects/fields.py`)."""

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
MACHINES = ("pc", "q35")
# A guest that was to have one of these and goes without, unseen, is worse than none. As extra specs: hw:tpm_version …
PROTECTIONS = ("hw_mem_encryption", "hw_ephemeral_encryption", "hw_tpm_version", "os_secure_boot")
UNPROTECTED = ("", "false", "f", "0", "no", "n", "off", "optional", "disabled")  # values of theirs that ask for nothing
# All that Nova knows (`nova/objects/image_meta.py`: ImageMetaProps, and the names of before), in words of a line.
_KNOWN = """
hw_architecture hw_emulation_architecture hw_auto_disk_config hw_boot_menu hw_cdrom_bus hw_cpu_cores hw_cpu_sockets
hw_cpu_max_cores hw_cpu_max_sockets hw_cpu_max_threads hw_cpu_policy hw_cpu_thread_policy hw_cpu_realtime_mask
hw_cpu_threads hw_device_id hw_disk_bus hw_disk_type hw_floppy_bus hw_firmware_type hw_firmware_stateless hw_input_bus
hw_ipxe_boot hw_locked_memory hw_machine_type hw_mem_encryption hw_mem_encryption_model hw_mem_page_size hw_numa_nodes
hw_numa_cpus hw_numa_mem hw_pci_numa_affinity_policy hw_pointer_model hw_pmu hw_qemu_guest_agent hw_rescue_bus
hw_rescue_device hw_rng_model hw_time_hpet hw_serial_port_count hw_scsi_model hw_video_model hw_video_ram hw_vif_model
hw_viommu_model hw_vm_mode hw_watchdog_action hw_vif_multiqueue_enabled hw_tpm_model hw_tpm_version
hw_ephemeral_encryption hw_ephemeral_encryption_format hw_ephemeral_encryption_secret_uuid hw_virtio_packed_ring
hw_maxphysaddr_mode hw_maxphysaddr_bits hw_sound_model hw_usb_model hw_redirected_usb_ports img_bittorrent img_bdm_v2
img_block_device_mapping img_cache_in_nova img_compression_level img_hv_requested_version img_hv_type img_config_drive
img_linked_clone img_mappings img_owner_id img_root_device_name img_use_agent img_version img_signature
img_signature_hash_method img_signature_certificate_uuid img_signature_key_type img_hide_hypervisor_id os_admin_user
os_command_line os_distro os_require_quiesce os_secure_boot os_skip_agent_inject_files_at_boot os_skip_agent_inject_ssh
os_type traits_required architecture owner_id vmware_disktype vmware_image_version vmware_ostype auto_disk_config
ipxe_boot xenapi_device_id xenapi_image_compression_level vmware_linked_clone xenapi_use_agent
xenapi_skip_agent_inject_ssh xenapi_skip_agent_inject_files_at_boot cache_in_nova vm_mode bittorrent mappings
block_device_mapping bdm_v2 root_device_name hypervisor_version_requires hypervisor_type
"""
KNOWN = frozenset(_KNOWN.split())

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


def machine(properties: Mapping[str, str]) -> str:
    """`pc`, `q35`, or a versioned one of either, such as `pc-q35-7.2`. ValueError for another."""
    value = properties.get("hw_machine_type") or "pc"
    named = value in MACHINES or value.startswith(("pc-i440fx-", "pc-q35-"))
    if not named or not value.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ValueError(f"the image property hw_machine_type is {value!r}; it can be pc, q35 and their versions")
    return value


def check(properties: Mapping[str, str]) -> None:
    """ValueError names the property that asks for hardware that there is not."""
    machine(properties)
    for name in CHOICES:
        choice(properties, name)
    _refuse_protection(properties, "the image property ")


def check_flavor(extra_specs: Mapping[str, str]) -> None:
    """ValueError names the extra spec that asks for a protection that there is not."""
    own = {name: extra_specs.get(name.replace("_", ":", 1), "") for name in PROTECTIONS}
    _refuse_protection(own, "the flavor's extra spec ", ":")


def _refuse_protection(asked: Mapping[str, str], of: str, mark: str = "_") -> None:
    for name in PROTECTIONS:
        value = str(asked.get(name) or "")
        if value.lower() not in UNPROTECTED:
            raise ValueError(f"{of}{name.replace('_', mark, 1)} is {value!r}, and no host of this cloud has that")


def known(properties: Mapping[str, object]) -> dict[str, str]:
    """Those of the properties that Nova knows, as text of at most 255 characters."""
    return {name: str(value)[:255] for name, value in properties.items() if name in KNOWN and value is not None}
