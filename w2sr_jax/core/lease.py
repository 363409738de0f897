"""A lease on a place in a bucket: one command at a time works there, and a dead one does not keep others away.

The lease is one object. It is created, renewed and taken over by conditional writes, of which the store lets one of several
succeed. Whether its holder lives is not judged by clocks, which may differ between machines: who finds a lease watches it, and
takes it over once it has not been renewed for `STALE` seconds, at once where its holder was a process of this machine that is
gone. A holder that could not renew it for that long stops.
"""

import contextlib
import dataclasses
import functools
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.bucket import Bucket
from w2sr_jax.core.errors import UserError

NAME = "lease.json"
RENEW, STALE = 10.0, 60.0
"""Seconds between two renewals, and without one until others may take a lease over."""
_LOOK = 1.0  # seconds between two looks at somebody else's


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lease: a random word, the machine's name and boot, and the process."""

    token: str
    host: str
    boot: str
    process: int

    @classmethod
    def own(cls) -> "Holder":
        return cls(secrets.token_hex(8), platform.node(), _boot(), os.getpid())

    def words(self) -> str:
        return f"process {self.process} on {self.host}"

    def gone(self) -> bool:
        """Whether it is known to have ended, since it was of this machine."""
        here = bool(self.boot) and (self.host, self.boot) == (platform.node(), _boot())
        return here and not Path(f"/proc/{self.process}").exists()


@contextlib.contextmanager
def held(
    bucket: Bucket,
    say: Callable[[str], None] = lambda words: None,
    renew: float = RENEW,
    stale: float = STALE,
    patience: float = 0.0,
) -> Iterator[Callable[[], None]]:
    """Hold the lease of a place. `say` is told where another holder is waited for. Yields a check that it is still held.

    `UserError` where a living command holds it, and goes on doing so for `patience` seconds; from the check, once it was lost.
    """
    lease = _Lease(bucket, Holder.own(), renew, stale)
    lease.acquire(say, patience)
    thread = threading.Thread(target=lease.renew_always, daemon=True, name="lease")
    thread.start()
    try:
        yield lease.check
        lease.check()
    finally:
        lease.ended.set()
        thread.join(timeout=stale)
        lease.release()


def holder(bucket: Bucket) -> Holder | None:
    """Whose lease lies there, unless its holder is known to have ended."""
    other, _ = _read(_store(bucket))
    return None if other is None or other.gone() else other


class _Lease:
    def __init__(self, bucket: Bucket, own: Holder, renew: float, stale: float) -> None:
        self.ended = threading.Event()
        self._bucket, self._own, self._renew, self._stale = bucket, own, renew, stale
        self._store = _store(bucket)
        self._generation: bytes = b""
        self._renewed = time.monotonic()
        self._count = 0
        self._lost, self._reason = "", ""

    def acquire(self, say: Callable[[str], None], patience: float) -> None:
        other, generation = _read(self._store)
        begun = seen = time.monotonic()
        told = alive = False
        while True:
            free = other is None or other.gone() or time.monotonic() - seen >= self._stale
            if free and self._write(generation):
                return
            if not free and not told:
                told = True
                say(
                    f"{self._bucket.address} was last worked on by {other.words() if other else 'a command'}: waiting up to "
                    f"{self._stale:.0f} s to see whether it still is"
                )
            time.sleep(min(_LOOK, self._renew / 4))
            now, newer = _read(self._store)
            if newer == generation:
                continue
            if now is not None and other is not None and now.token == other.token:
                words = f"{self._bucket.address} is worked on by {now.words()}"
                if time.monotonic() - begun >= patience:
                    raise UserError(f"{words}; wait until that command has ended, or stop it")
                if not alive:
                    alive = True
                    say(f"{words}: waiting up to {patience:.0f} s for that command to end")
            other, generation, seen = now, newer, time.monotonic()

    def renew_always(self) -> None:
        """Renew the lease until it is given back or lost; in a thread."""
        while not self.ended.wait(self._renew) and not self._lost:
            try:
                if not self._write(self._generation):
                    self._lost = "another command has taken it over"
            except UserError as error:  # the network may come back in time
                self._reason = f": {error}"

    def check(self) -> None:
        """`UserError` once the lease is lost."""
        if not self._lost and time.monotonic() - self._renewed >= self._stale:
            self._lost = f"it could not be renewed for {self._stale:.0f} s{self._reason}"
        if self._lost:
            raise UserError(
                f"the lease on {self._bucket.address} was lost, since {self._lost}; what was finished before is kept, and the "
                "same command goes on from there"
            )

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        if not self._lost:
            with contextlib.suppress(UserError), _sentences(self._bucket):
                self._store.kv.write(NAME, None, if_equal=self._generation).result()

    def _write(self, generation: bytes) -> bool:
        """Write the lease if it still is of this generation."""
        begun = time.monotonic()
        record = {**dataclasses.asdict(self._own), "renewals": self._count}
        with _sentences(self._bucket):
            written: bytes = self._store.kv.write(NAME, json.dumps(record).encode(), if_equal=generation).result().generation
        if not written:
            # A request whose answer was lost is sent again, and then meets what it has written itself.
            now, newer = _read(self._store)
            written = newer if now is not None and now.token == self._own.token else b""
        if written:
            self._generation, self._renewed, self._count = written, begun, self._count + 1
        return bool(written)


class _Store:
    """The bucket as tensorstore, which knows conditional writes, opens it."""

    def __init__(self, bucket: Bucket) -> None:
        import tensorstore

        self.bucket = bucket
        with _sentences(bucket):
            self.kv: Any = tensorstore.KvStore.open(_spec(bucket)).result()
            # The generation of what is not there is the same in every store.
            self.absent: bytes = tensorstore.KvStore.open("memory://").result().read("absent").result().stamp.generation


@functools.lru_cache(maxsize=64)
def _store(bucket: Bucket) -> _Store:
    return _Store(bucket)


def _spec(bucket: Bucket) -> dict[str, Any]:
    scheme, _, rest = bucket.address.partition("://")
    name, _, prefix = rest.partition("/")
    path = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    if scheme == "gs":
        return {"driver": "gcs", "bucket": name, "path": path}
    spec = {"driver": "s3", "bucket": name, "path": path}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return spec | ({"endpoint": endpoint} if endpoint else {}) | ({"aws_region": region} if region else {})


def _read(store: _Store) -> tuple[Holder | None, bytes]:
    """Who holds the lease, and its generation."""
    with _sentences(store.bucket):
        read = store.kv.read(NAME).result()
    if read.state != "value":
        return None, store.absent
    try:
        fields = json.loads(read.value)
        own = Holder(str(fields["token"]), str(fields["host"]), str(fields["boot"]), int(fields["process"]))
    except (ValueError, KeyError, TypeError):
        own = Holder("", "an unknown machine", "", 0)
    return own, read.stamp.generation


@contextlib.contextmanager
def _sentences(bucket: Bucket) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:  # of tensorstore
        raise UserError(
            f"the lease in {bucket.address} cannot be read or written: {sentences.cause(error)}; give this machine's account the "
            "right to read, write and delete objects there"
        ) from None


def _boot() -> str:
    """A word for this start of the machine and its space of process numbers, of which containers have their own."""
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return ""
