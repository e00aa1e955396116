"""The passwords of network disks, where QEMU finds them: libvirt's secrets, one a volume (iSCSI) or a user (Ceph).

Nova: `create_secret`, `find_secret` and `delete_secret` in nova/virt/libvirt/host.py. No secret is in a guest's XML.
"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import libvirt

from kilonova.host.libvirt.connection import calling, unless
from kilonova.host.libvirt.volume_xml import connection_data
from kilonova.host.libvirt.xmltree import add
from kilonova.model.errors import HostError
from kilonova.model.specs import VolumeSpec

ISCSI, CEPH = libvirt.VIR_SECRET_USAGE_TYPE_ISCSI, libvirt.VIR_SECRET_USAGE_TYPE_CEPH


def ensure_secret(conn: libvirt.virConnect, volume: VolumeSpec, cloud_id: str) -> None:
    """libvirt knows the volume's password afterwards. One that needs none has none."""
    data = connection_data(volume)
    if volume.driver_volume_type == "iscsi" and data.get("auth_password"):
        _ensure(conn, _secret(cloud_id, "iscsi", target=data["target_iqn"]), data["auth_password"].encode())
    elif volume.driver_volume_type == "rbd" and data.get("auth_enabled") and data.get("keyring"):
        name = f"client.{data['auth_username']} of {cloud_id}"
        element = _secret(cloud_id, "ceph", name=name)
        element.insert(0, _uuid(data["secret_uuid"]))
        _ensure(conn, element, base64.b64decode(_key(data["keyring"])))


def delete_secret(conn: libvirt.virConnect, volume: VolumeSpec) -> None:
    """Ceph's stays: it is of all volumes of its user."""
    if volume.driver_volume_type == "iscsi":
        with calling("libvirt secretUndefine"), unless(libvirt.VIR_ERR_NO_SECRET):
            conn.secretLookupByUsage(ISCSI, connection_data(volume)["target_iqn"]).undefine()


def delete_secrets(conn: libvirt.virConnect, cloud_id: str) -> None:
    """All of a cloud's: for a purge, where libvirt is the host's."""
    with calling("libvirt listAllSecrets"):
        for secret in conn.listAllSecrets():
            with unless(libvirt.VIR_ERR_NO_SECRET):
                if ET.fromstring(secret.XMLDesc()).findtext("description") == _mark(cloud_id):
                    secret.undefine()


def _ensure(conn: libvirt.virConnect, element: ET.Element, value: bytes) -> None:
    """The same again is a redefinition; the value is replaced."""
    usage = element.find("usage")
    assert usage is not None
    kind, name = (ISCSI, usage.findtext("target")) if usage.get("type") == "iscsi" else (CEPH, usage.findtext("name"))
    secret = None
    with calling("libvirt secretLookup"), unless(libvirt.VIR_ERR_NO_SECRET):
        secret = conn.secretLookupByUsage(kind, name)
    if secret is None:
        with calling("libvirt secretDefine"):
            secret = conn.secretDefineXML(ET.tostring(element, encoding="unicode"))
    with calling("libvirt secretSetValue"):
        secret.setValue(value)


def _secret(cloud_id: str, kind: str, **usage: str) -> ET.Element:
    element = ET.Element("secret", ephemeral="no", private="yes")
    add(element, "description", _mark(cloud_id))
    used = add(element, "usage", type=kind)
    for tag, text in usage.items():
        add(used, tag, text)
    return element


def _uuid(text: str) -> ET.Element:
    element = ET.Element("uuid")
    element.text = text
    return element


def _key(keyring: str) -> str:
    """Of the text of a Ceph keyring: the key of its first user."""
    found = re.search(r"^\s*key\s*=\s*(\S+)", keyring, flags=re.MULTILINE)
    if found is None:
        raise HostError("the keyring of the Ceph volume has no key")
    return found.group(1)


def _mark(cloud_id: str) -> str:
    return f"kilonova:{cloud_id}"
