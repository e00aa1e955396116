"""A cloud behind HTTPS with a CA of its own, as the stock client and our own commands see it."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clouds import RunningCloud
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Key = ec.EllipticCurvePrivateKey


def certificate(name: str, key: Key, issuer: str, signer: Key) -> bytes:
    """PEM, good for a day: of a CA when it signs itself, else of a server on this machine."""
    today = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(hours=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tls")
    written_certificates(home)
    return home


def written_certificates(home: Path) -> str:
    """ca.pem, whose path is given back, and cert.pem with key.pem signed by it."""
    ca, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (home / "ca.pem").write_bytes(certificate("our own CA", ca, "our own CA", ca))
    (home / "cert.pem").write_bytes(certificate("cloud", key, "our own CA", ca))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (home / "key.pem").write_bytes(key.private_bytes(*plain))
    (home / "ca-key.pem").write_bytes(ca.private_bytes(*plain))
    return str(home / "ca.pem")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[RunningCloud]:
    options = ("--tls-cert", files / "cert.pem", "--tls-key", files / "key.pem", "--tls-ca", files / "ca.pem")
    made = RunningCloud(tmp_path_factory.mktemp("https") / "cloud", "fake", *map(str, options)).up()
    words = ("server", "create", "--wait", "--flavor", "m1.nano", "--image", "kilonova-guest", "--network", "demo")
    made.openstack(*words, "behind-tls")
    yield made
    made.purge()


def test_the_stock_client_trusts_it_by_clouds_yaml_alone(cloud: RunningCloud) -> None:
    assert cloud.json["url"].startswith("https://127.0.0.1:")
    assert cloud.openstack("server", "show", "behind-tls", "-f", "json")["status"] == "ACTIVE"
    endpoints = str(cloud.openstack("catalog", "list", "-f", "json"))
    assert cloud.json["url"] in endpoints
    assert "http://" not in endpoints


def test_our_own_commands_trust_the_certificate_that_is_served_and_no_other(cloud: RunningCloud, files: Path) -> None:
    assert "set_active" in cloud.kilonova("trace", "behind-tls")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(cloud.json["url"] + "/identity/v3", verify=ssl.create_default_context())


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path: Path, files: Path) -> None:
    options = ("--tls-cert", files / "cert.pem", "--tls-key", files / "ca-key.pem")
    other = RunningCloud(tmp_path / "cloud", "fake")
    refused = other.kilonova("up", "--virt", "fake", "--port", "0", *map(str, options), code=1)
    assert "the PEM key that belongs to it" in refused
    assert not other.state.exists()


def test_a_public_name_is_what_the_catalogue_says_and_what_our_own_commands_do_not_need(tmp_path: Path) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "fake", "--public-url", "https://cloud.invalid/").up()
    assert cloud.json["url"] == "https://cloud.invalid"
    assert "https://cloud.invalid/identity/v3" in (cloud.state / "clouds.yaml").read_text()
    assert "no server has the name or id" in cloud.kilonova("trace", "nobody", code=1)
    root = httpx.get(cloud.json["own_url"] + "/identity/v3", trust_env=False).json()
    assert root["version"]["links"][0]["href"].startswith("https://cloud.invalid/identity/")
    cloud.purge()


def test_listening_everywhere_the_catalogue_does_not_say_everywhere(tmp_path: Path) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "fake", "--listen", "0.0.0.0").up()
    assert "0.0.0.0" not in cloud.json["url"]
    assert httpx.get(cloud.json["url"] + "/identity/v3", trust_env=False).status_code == 200
    assert "no server has the name or id" in cloud.kilonova("trace", "nobody", code=1)
    cloud.purge()
