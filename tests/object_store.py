"""A store of objects on this machine that speaks as much of Google Cloud Storage's JSON interface as its clients here use, with
its preconditions: for tests of buckets. `object_store()` starts it in a process of its own and gives the environment for it."""

import base64
import contextlib
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

BUCKET = "runs-here"
needs_gcsfs = pytest.mark.skipif(importlib.util.find_spec("gcsfs") is None, reason="gcsfs is not installed (extra gcs)")


@contextlib.contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """The environment in which clients find the store; it has one bucket, `BUCKET`."""
    server = subprocess.Popen([sys.executable, str(Path(__file__))], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        body = json.dumps({"name": BUCKET}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{address}/storage/v1/b", body, {"Content-Type": "application/json"}))
        yield {
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GCSFS_DEFAULT_PROJECT": "project",
            "GOOGLE_CLOUD_PROJECT": "project",
            "NO_GCE_CHECK": "true",
        }
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


class Refused(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


class Objects:
    """All objects, by bucket and name. A generation is never given twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.buckets: set[str] = set()
        self.values: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.uploads: dict[str, tuple[dict[str, str], str, str, bytes]] = {}
        self._generation = 1_000

    def put(self, query: dict[str, str], bucket: str, name: str, data: bytes) -> dict[str, str]:
        with self.lock:
            if bucket not in self.buckets:
                raise Refused(404, "The specified bucket does not exist.")
            self.check(query, bucket, name)
            self._generation += 1
            self.values[bucket, name] = (data, self._generation)
            return self.about(bucket, name)

    def check(self, query: dict[str, str], bucket: str, name: str) -> None:
        generation = self.values.get((bucket, name), (b"", 0))[1]
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
            raise Refused(412, "conditionNotMet")
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation:
            raise Refused(304, "notModified")

    def about(self, bucket: str, name: str) -> dict[str, str]:
        data, generation = self.values[bucket, name]
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(data)),
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "contentType": "application/octet-stream",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
            "storageClass": "STANDARD",
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects = Objects()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def handle_any(self) -> None:
        try:
            self._route()
        except Refused as refused:
            self._answer({"error": {"code": refused.code, "message": refused.why}}, refused.code)
        except KeyError:
            self._answer({"error": {"code": 404, "message": "not found"}}, 404)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    def _answer(self, value: Any = b"", code: int = 200, headers: dict[str, str] | None = None) -> None:
        body = b"" if code == 304 else value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self) -> None:
        address, body = urlsplit(self.path), self._body()
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        path = re.sub(r"^/(resumable/|download/)", "/", address.path.replace("//", "/"))
        if match := re.fullmatch(r"/upload(?:/resumable)?/storage/v1/b/([^/]+)/o", path):
            self._upload(query, match[1], body)
            return
        path = path.removeprefix("/storage/v1")
        if path == "/b" and self.command == "POST":
            self.objects.buckets.add(json.loads(body)["name"])
            self._answer(json.loads(body))
        elif match := re.fullmatch(r"/b/([^/]+)", path):
            if match[1] not in self.objects.buckets:
                raise Refused(404, "The specified bucket does not exist.")
            self._answer({"kind": "storage#bucket", "name": match[1], "id": match[1], "location": "US", "locationType": "region"})
        elif match := re.fullmatch(r"/b/([^/]+)/o/(.+)/(copyTo|rewriteTo)/b/([^/]+)/o/(.+)", path):
            data = self.objects.values[match[1], unquote(match[2])][0]
            about = self.objects.put(query, match[4], unquote(match[5]), data)
            done = {"kind": "storage#rewriteResponse", "done": True, "resource": about, "objectSize": about["size"]}
            self._answer(about if match[3] == "copyTo" else {**done, "totalBytesRewritten": about["size"]})
        elif match := re.fullmatch(r"/b/([^/]+)/o/(.+)", path):
            self._object(query, match[1], unquote(match[2]))
        elif match := re.fullmatch(r"/b/([^/]+)/o/?", path):
            self._listing(query, match[1])
        else:
            raise Refused(404, "unknown address")

    def _object(self, query: dict[str, str], bucket: str, name: str) -> None:
        with self.objects.lock:
            if self.command == "DELETE":
                self.objects.check(query, bucket, name)
                del self.objects.values[bucket, name]
                self._answer(b"", 204)
                return
            data, generation = self.objects.values[bucket, name]
            self.objects.check(query, bucket, name)
            about = self.objects.about(bucket, name)
        if query.get("alt") != "media":
            self._answer(about)
            return
        headers = {"x-goog-generation": str(generation), "x-goog-metageneration": "1", "x-goog-hash": f"md5={about['md5Hash']}"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._answer(data, headers=headers)
            return
        start = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        end = min(int(asked[2]) if asked[1] and asked[2] else len(data) - 1, len(data) - 1)
        if start >= len(data):
            raise Refused(416, "range")
        self._answer(data[start : end + 1], 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})

    def _listing(self, query: dict[str, str], bucket: str) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        first, last = query.get("startOffset", ""), query.get("endOffset")
        entries: dict[str, dict[str, str] | None] = {}
        with self.objects.lock:
            if bucket not in self.objects.buckets:
                raise Refused(404, "The specified bucket does not exist.")
            for at, name in sorted(self.objects.values):
                if at != bucket or not name.startswith(prefix) or name < first or (last and name >= last):
                    continue
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    entries[prefix + rest.split(delimiter)[0] + delimiter] = None
                else:
                    entries[name] = self.objects.about(bucket, name)
        start, size = int(query.get("pageToken") or 0), int(query.get("maxResults") or 1000)
        page = sorted(entries.items())[start : start + size]
        answer: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [about for _, about in page if about],
            "prefixes": [name for name, about in page if not about],
        }
        self._answer(answer | ({"nextPageToken": str(start + size)} if start + size < len(entries) else {}))

    def _upload(self, query: dict[str, str], bucket: str, body: bytes) -> None:
        if query["uploadType"] == "media":
            self._answer(self.objects.put(query, bucket, query["name"], body))
        elif query["uploadType"] == "multipart":
            about, data = _parts(self.headers["Content-Type"], body)
            self._answer(self.objects.put(query, bucket, query.get("name") or about["name"], data))
        elif "upload_id" not in query:
            name = query.get("name") or json.loads(body)["name"]
            with self.objects.lock:
                self.objects.check(query, bucket, name)
                number = str(len(self.objects.uploads))
                self.objects.uploads[number] = (query, bucket, name, b"")
            where = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={number}"
            self._answer(headers={"Location": where})
        else:
            asked, _, name, before = self.objects.uploads[query["upload_id"]]
            data, total = before + body, self.headers.get("Content-Range", "bytes 0-0/1").rpartition("/")[2]
            self.objects.uploads[query["upload_id"]] = (asked, bucket, name, data)
            if total == "*" or len(data) < int(total):
                self._answer(code=308, headers={"Range": f"bytes=0-{max(0, len(data) - 1)}"})
            else:
                self._answer(self.objects.put(asked, bucket, name, data))


def _parts(kind: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """The two parts of a multipart upload: what is said of the object, and its bytes, which end before the line of the mark."""
    found = re.search(r'boundary="?([^";]+)', kind)
    assert found is not None
    mark = b"--" + found[1].strip("'").encode()
    about, data = (part.strip(b"\r\n") if at == 0 else part for at, part in enumerate(body.split(mark)[1:3]))
    _, about = re.split(rb"\r?\n\r?\n", about, maxsplit=1)
    _, data = re.split(rb"\r?\n\r?\n", data, maxsplit=1)
    return json.loads(about), re.sub(rb"\r?\n\Z", b"", data)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
