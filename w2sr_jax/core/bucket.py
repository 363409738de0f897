"""Objects in a store that several machines reach: `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`, by fsspec's file systems.

Credentials are the platform's own: they are looked for where the vendor's libraries look, and are neither read nor passed on
here. An object is written whole, or not at all. Listings are never cached, since other machines write as well.
"""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError

EXTRAS = {"gs": "gcs", "s3": "s3"}
"""The schemes that are served, and the extra of the package that brings what each needs."""
_AT_ONCE = 16  # requests under way together
_ADDRESS = re.compile(r"(gs|s3)://([^/]+)(?:/(.*))?")
_REFUSED = re.compile(r"\b(401|403|forbidden|denied|unauthorized|credentials?)\b", re.IGNORECASE)


class Entry(NamedTuple):
    """What a listing says of an object: bytes, and a mark that is another one for other bytes, such as the store's own
    checksum."""

    size: int
    mark: str


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A place in an object store; names are relative to it. Every method raises `UserError` where the store cannot be reached,
    has no such bucket, or refuses."""

    address: str

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise UserError(f"{self.address}: the address of a place in a bucket is gs://BUCKET/PREFIX or s3://BUCKET/PREFIX")

    @property
    def scheme(self) -> str:
        return self.address.partition(":")[0]

    def below(self, name: str) -> "Bucket":
        """The place of this name."""
        return Bucket(f"{self.address.rstrip('/')}/{name}")

    def check(self) -> None:
        """`UserError` where the bucket does not exist, or this machine may not read it."""
        self.folders()

    def listing(self, prefix: str = "") -> dict[str, Entry]:
        """All objects whose names begin with `prefix` and a slash (all, where it is empty), by name."""
        with self._sentences("read"):
            listed = self._files.find(self._key(prefix), detail=True)
            if not listed:
                self._check_exists()
        start = len(self._key("")) + 1
        return {path[start:]: _entry(info) for path, info in sorted(listed.items()) if info.get("type") == "file"}

    def folders(self) -> list[str]:
        """The names of what lies here, up to the next slash, of those that hold something."""
        with self._sentences("read"):
            try:
                below = self._files.ls(self._key(""), detail=True)
            except FileNotFoundError:
                self._check_exists()
                return []
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in below if each["type"] == "directory")

    def entry(self, name: str) -> Entry | None:
        """What there is of this name; None where there is nothing."""
        with self._sentences("read"):
            try:
                info = self._files.info(self._key(name))
            except FileNotFoundError:
                return None
        return _entry(info) if info.get("type") == "file" else None

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """The bytes of some small objects, of those that are there."""

        def one(name: str) -> bytes | None:
            try:
                data: bytes = self._files.cat_file(self._key(name))
            except FileNotFoundError:
                return None
            return data

        with self._sentences("read"), ThreadPoolExecutor(_AT_ONCE) as pool:
            values = zip(names, pool.map(one, names))
            return {name: value for name, value in values if value is not None}

    def write(self, name: str, data: bytes) -> None:
        with self._sentences("written"):
            self._files.pipe_file(self._key(name), data)

    def send(self, path: Path, name: str) -> None:
        """Write a file's bytes."""
        with self._sentences("written"):
            self._files.put_file(str(path), self._key(name))

    def fetch(self, name: str, path: Path) -> bool:
        """Read an object into a file, which is there whole or not at all; False where there is no such object."""
        with self._sentences("read"):
            try:
                with files.replacing(path) as temporary:
                    self._files.get_file(self._key(name), str(temporary))
            except FileNotFoundError:
                return False
        return True

    def copy(self, names: Iterable[str], other: "Bucket") -> None:
        """Copy objects to the same names in another place of the same bucket; the bytes do not come here."""
        with self._sentences("written"), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: self._files.cp_file(self._key(name), other._key(name)), names))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, of those that are there, in any order."""

        def one(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._key(name))

        with self._sentences("written"), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(one, names))

    def _key(self, name: str) -> str:
        bucket, prefix = _parts(self.address)
        return "/".join(part for part in (bucket, prefix, name) if part)

    def _check_exists(self) -> None:
        """`FileNotFoundError` where there is no such bucket: an empty listing alone does not say."""
        bucket, _ = _parts(self.address)
        self._files.ls(bucket, detail=False)

    @property
    def _files(self) -> Any:
        return _file_system(self.scheme)

    @contextlib.contextmanager
    def _sentences(self, done: str) -> Iterator[None]:
        bucket, _ = _parts(self.address)
        home = f"{self.scheme}://{bucket}"
        try:
            yield
        except (UserError, KeyboardInterrupt):
            raise
        except FileNotFoundError:
            raise UserError(f"{self.address}: there is no bucket {home}; create it, or name another") from None
        except Exception as error:  # each file system raises what it likes
            words = sentences.cause(error)
            if isinstance(error, PermissionError) or _REFUSED.search(words):
                raise UserError(
                    f"{self.address} cannot be {done}: {words}; give this machine's account (or its credentials, where the "
                    f"vendor's tools look for them) the right to read and write objects in {home}"
                ) from None
            if files.refusal(error) is not None:
                raise
            if re.search(r"\b404\b|no ?such ?bucket", words, re.IGNORECASE):
                raise UserError(f"{self.address}: there is no bucket {home}; create it, or name another") from None
            raise UserError(f"{self.address} cannot be {done}: {words}") from None


def is_address(written: str) -> bool:
    """Whether an argument names a place in a bucket that can be served."""
    return bool(_ADDRESS.fullmatch(written))


def _parts(address: str) -> tuple[str, str]:
    match = _ADDRESS.fullmatch(address)
    assert match is not None
    return match[2], (match[3] or "").strip("/")


def _entry(info: Mapping[str, Any]) -> Entry:
    mark = next((str(info[name]) for name in ("md5Hash", "crc32c", "ETag", "etag", "generation") if info.get(name)), "")
    return Entry(int(info["size"] or 0), mark.strip('"'))


@functools.cache
def _file_system(scheme: str) -> Any:
    """The file system of a scheme. `UserError` where what it needs is not installed."""
    import fsspec

    # For the file systems that other libraries make, too: a listing that another machine has outdated would be believed.
    for protocol in ("gs", "gcs", "s3", "s3a"):
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError:
        raise UserError(f"{scheme}:// needs packages that are not installed: pip install 'w2sr-jax[{EXTRAS[scheme]}]'") from None
