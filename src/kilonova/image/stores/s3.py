"""Images as objects of an S3 bucket: CLOUD/IMAGE. Glance: `glance_store/_drivers/s3.py`.

Options, as Glance's: s3_store_host (its URL), s3_store_bucket, s3_store_create_bucket_on_put, s3_store_bucket_url_format
(auto, path, virtual), s3_store_region_name, s3_store_cacert. The key stands in no command line, where every user of this
machine could read it: s3_store_credentials names a file as AWS's own clients have it; without one they look where they
always do. The library is an extra of its own (`kilonova[s3]`), and loaded by clouds that have such a store.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from kilonova.image.stores.store import CHUNK, StoreConfig
from kilonova.model.errors import KilonovaError, Unavailable

PART = 8 << 20  # bytes, at least, of a part that is sent at once: one is in memory; 5 MiB or more, S3 says
SAME_SIZE = 1000  # so many parts, then twice as large ones: there are at most 10,000, and objects of 5 TiB


class S3Store:
    kind = "s3"

    def __init__(self, config: StoreConfig) -> None:
        options = config.options
        if "s3_store_bucket" not in options:
            raise KilonovaError(f"the image store {config.name} needs the option s3_store_bucket=NAME")
        self.name, self.bucket, self.prefix = config.name, options["s3_store_bucket"], f"{config.cloud_id}/"
        self.host = options.get("s3_store_host")
        self.description = f"The bucket {self.bucket} at {self.host or 'AWS'}"
        self._make_bucket = options.get("s3_store_create_bucket_on_put", "false").lower() == "true"
        self._client = _client(config)

    def path(self, image_id: str) -> None:
        return None

    def url(self, image_id: str) -> str:
        return f"s3://{(self.host or 's3.amazonaws.com').partition('://')[2]}/{self.bucket}/{self._key(image_id)}"

    def properties(self) -> dict[str, Any]:
        return {"s3_store_large_object_size": PART >> 20, "s3_store_large_object_chunk_size": PART >> 20}

    def write(self, image_id: str, chunks: Iterable[bytes]) -> None:
        parts = _parts(chunks)
        begun = list(islice(parts, 2))
        with self._reached():
            self._ensure_bucket()
        if len(begun) == 1:
            with self._reached():
                self._client.put_object(**self._object(image_id), Body=begun[0])
        else:
            self._write_parts(image_id, _one_after_another(begun, parts))

    def _write_parts(self, image_id: str, parts: Iterable[bytes]) -> None:
        with self._reached():
            upload = self._client.create_multipart_upload(**self._object(image_id))["UploadId"]
        which = {**self._object(image_id), "UploadId": upload}
        try:
            sent = []
            for number, part in enumerate(parts, 1):
                with self._reached():
                    answer = self._client.upload_part(**which, PartNumber=number, Body=part)
                sent.append({"PartNumber": number, "ETag": answer["ETag"]})
            with self._reached():
                self._client.complete_multipart_upload(**which, MultipartUpload={"Parts": sent})
        except BaseException:
            with suppress(Unavailable), self._reached():  # what stays is swept
                self._client.abort_multipart_upload(**which)
            raise

    def read(self, image_id: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            return iter(())
        span = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if start or length else {}
        with self._reached():
            body = self._client.get_object(**self._object(image_id), **span)["Body"]
        return self._pieces(body)

    def _pieces(self, body: Any) -> Iterator[bytes]:
        with body, self._reached():
            while chunk := body.read(CHUNK):
                yield chunk

    def delete(self, image_id: str) -> None:
        with self._reached():
            self._client.delete_object(**self._object(image_id))

    def sweep(self, known: Collection[str]) -> list[str]:
        gone = []
        with self._reached():
            if not self._has_bucket():
                return []
            ours = {"Bucket": self.bucket, "Prefix": self.prefix}
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**ours):
                for each in page.get("Uploads", ()):
                    which = {"Bucket": self.bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
                    self._client.abort_multipart_upload(**which)
                    gone.append(f"{each['Key']}?uploadId={each['UploadId']}")
            for page in self._client.get_paginator("list_objects_v2").paginate(**ours):
                for each in page.get("Contents", ()):
                    if each["Key"].removeprefix(self.prefix) not in known:
                        self._client.delete_object(Bucket=self.bucket, Key=each["Key"])
                        gone.append(each["Key"])
        return gone

    def _key(self, image_id: str) -> str:
        return self.prefix + image_id

    def _object(self, image_id: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(image_id)}

    def _has_bucket(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def _ensure_bucket(self) -> None:
        if self._make_bucket and not self._has_bucket():
            region = self._client.meta.region_name
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._client.create_bucket(Bucket=self.bucket, **place)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What S3 or the way to it refuses, as Unavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise Unavailable(f"The image store {self.name} cannot be used: {error}") from error


def _client(config: StoreConfig) -> Any:
    """KilonovaError where the library is missing."""
    try:
        import botocore.session  # 40 MB, for who has such a store
        from botocore.config import Config
    except ImportError as error:
        raise KilonovaError(f"the image store {config.name} needs botocore: pip install 'kilonova[s3]'") from error
    options = config.options
    session = botocore.session.get_session()
    if "s3_store_credentials" in options:
        session.set_config_variable("credentials_file", options["s3_store_credentials"])
    settings = Config(
        connect_timeout=5, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": options.get("s3_store_bucket_url_format", "auto")},
        request_checksum_calculation="when_required", response_checksum_validation="when_required",  # not all S3 know these
    )  # fmt: skip
    region = options.get("s3_store_region_name", "us-east-1")
    ca = options.get("s3_store_cacert")
    return session.create_client("s3", region, endpoint_url=options.get("s3_store_host"), verify=ca, config=settings)


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes in parts as S3 takes them: all but the last as large as they must be; at least one, which may be empty."""
    held: list[bytes] = []
    size = number = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= PART << number // SAME_SIZE:
            part, held, size = b"".join(held), [], 0
            yield part
            number += 1
    if held or not number:
        yield b"".join(held)


def _one_after_another(begun: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """Nobody holds what was given out."""
    while begun:
        yield begun.pop(0)
    yield from rest
