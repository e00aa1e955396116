"""Password hashes: bcrypt over SHA-256, so that long passwords count whole."""

import base64
import hashlib

import bcrypt

ROUNDS = 10  # 2**10: about 50 ms a check


def _digest(password: str) -> bytes:
    return base64.b64encode(hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest())


def hash_password(password: str) -> str:
    """Takes tens of milliseconds: never inside a transaction."""
    return bcrypt.hashpw(_digest(password), bcrypt.gensalt(ROUNDS)).decode()


def _nobody() -> str:
    """Of no password, and made at no cost: the first refusal of a process takes no longer than the next."""
    return f"$2b${ROUNDS:02}${'.' * 53}"


def check_password(password: str, hashed: str | None) -> bool:
    """Takes as long when there is no hash: an answer's time tells nothing about who exists."""
    right = bcrypt.checkpw(_digest(password), (hashed or _nobody()).encode())
    return right and hashed is not None
