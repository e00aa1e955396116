"""Building XML that users' words cannot break out of."""

import re
import xml.etree.ElementTree as ET

# What XML 1.0 cannot hold, even escaped; libvirt would refuse the whole guest for one such character in its name.
_ILLEGAL = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return _ILLEGAL.sub("", text)


def add(parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    """A new last child; text and attributes are cleaned, and escaped when written out."""
    element = ET.SubElement(parent, tag, {name: clean(value) for name, value in attributes.items()})
    if text is not None:
        element.text = clean(text)
    return element
