"""One cloud's settings, and the places in its state directory."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Backend:
    """Where bytes lie. name: of volumes Cinder's volume_backend_name, of images Glance's store identifier; kind: in
    host/storage, or in image/stores; options: Cinder's, such as rbd_pool, or Glance's."""

    name: str
    kind: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Config:
    """What `kilonova up` was told. `port` 0 picks a free one; `database_url` "" means SQLite in the state directory."""

    state: Path
    port: int = 0
    listen: str = "127.0.0.1"
    public_url: str = ""
    virt: str = "auto"  # auto | qemu | kvm | fake
    images: tuple[tuple[str, Path], ...] = ()
    guest_image: Path | None = None
    database_url: str = ""
    public_cidr: str = ""
    uplink: str = "none"
    host_net: bool = False
    libvirt_uri: str = ""
    vif_type: str = "bridge"
    keep_shelved: bool = False  # Nova's shelved_offload_time of -1
    physnets: tuple[tuple[str, str], ...] = ()  # (physical network, link)
    overlay: str = ""  # this host's address for VXLAN
    volume_backends: tuple[Backend, ...] = (Backend("file", "file"),)
    image_stores: tuple[Backend, ...] = (Backend("file", "file"),)  # the first is the default
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    web_download: tuple[str, ...] = ()  # HOST[:PORT] from where images may be imported
    policy: Path | None = None  # None: policy.yaml in the state directory
    security: tuple[str, ...] = ()  # NAME=VALUE of Keystone's [security_compliance]

    @property
    def fake(self) -> bool:
        return self.virt == "fake"

    @property
    def url_of_database(self) -> str:
        return self.database_url or f"sqlite:///{self.sqlite_file}"

    @property
    def sqlite_file(self) -> Path:
        return self.state / "kilonova.db"

    @property
    def policy_file(self) -> Path:
        return self.policy or self.state / "policy.yaml"

    @property
    def lock_file(self) -> Path:
        return self.state / "lock"

    @property
    def cloud_json(self) -> Path:
        return self.state / "cloud.json"

    @property
    def clouds_yaml(self) -> Path:
        return self.state / "clouds.yaml"

    @property
    def staged_images_dir(self) -> Path:
        return self.state / "staged-images"

    def images_dir(self, store: str) -> Path:
        """Of an image store's own."""
        return self.state / ("images" if store == "file" else f"images-{store}")

    @property
    def fernet_keys(self) -> Path:
        return self.state / "fernet-keys"

    @property
    def credential_keys(self) -> Path:
        return self.state / "credential-keys"
