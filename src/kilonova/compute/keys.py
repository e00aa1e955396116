"""What keypairs are made of: SSH keys (ed25519) and X.509 client certificates, made or read."""

import base64
import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kilonova.model.errors import BadRequest
from kilonova.model.ids import now

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def fingerprint(public_key: str) -> str:
    """MD5 of the key's bytes, as Nova shows it. BadRequest when it is no OpenSSH public key."""
    words = public_key.split()
    try:
        data = base64.b64decode(words[1], validate=True)
        serialization.load_ssh_public_key(" ".join(words[:2]).encode())
    except Exception as error:  # the library's errors have no common root
        if not _is_security_key(words):
            raise BadRequest("Keypair data is invalid: failed to generate fingerprint") from error
    return hashlib.md5(data, usedforsecurity=False).digest().hex(":")


def _is_security_key(words: list[str]) -> bool:
    """Keys held by FIDO tokens, whose blob begins with its own type; cryptography does not parse all of them."""
    if len(words) < 2 or not words[0].startswith("sk-"):
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == words[0].encode()


def fingerprint_x509(certificate: str) -> str:
    """SHA-1 of the certificate. BadRequest when it is none."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise BadRequest(
            f"Keypair data is invalid: failed to generate X509 fingerprint. Error message: {error}"
        ) from error
    return parsed.fingerprint(hashes.SHA1()).hex(":")


def generate_ssh() -> tuple[str, str, str]:
    """Private key (OpenSSH PEM), public key, fingerprint."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    public += " Generated-by-Nova"
    return private, public, fingerprint(public)


def generate_x509(user_id: str) -> tuple[str, str, str]:
    """Private key, a self-signed client certificate for WinRM logins, fingerprint (Nova: generate_winrm_x509_cert)."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    upn = f"{user_id}@localhost".encode()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now())
        .not_valid_after(now() + datetime.timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName([x509.OtherName(UPN, b"\x0c" + bytes([len(upn)]) + upn)]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return private, public, fingerprint_x509(public)
