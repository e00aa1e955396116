"""One-time passwords by the clock (RFC 6238: SHA-1, six digits, 30 seconds), as Keystone's totp method has them."""

import base64
import binascii
import hmac
import struct
import time

PERIOD = 30  # seconds
DIGITS = 6
PREVIOUS = 1  # periods before this one whose passcode is still taken: Keystone's [totp] included_previous_windows


def secret_of(blob: str) -> bytes | None:
    """The key in a credential's blob, which is base32 with or without its padding; None when it is none."""
    text = blob.strip().replace(" ", "").upper()
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8)) or None
    except (binascii.Error, ValueError):
        return None


def passcode(secret: bytes, when: float) -> str:
    digest = hmac.digest(secret, struct.pack(">Q", int(when) // PERIOD), "sha1")
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def is_right(secret: bytes, given: str) -> bool:
    now = time.time()
    good = [passcode(secret, now - PERIOD * back) for back in range(PREVIOUS + 1)]
    return any(hmac.compare_digest(each.encode(), given.encode("utf-8", "surrogatepass")) for each in good)
