"""Hub ids and directories: a small server plays the Hub, over the library's real client."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from w2sr_jax.core import hub
from w2sr_jax.core.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """The Hub, with one repository `owner/model`; `refuse` is the status and error code that all requests get."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.refuse = files, [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, True)

            def do_HEAD(self) -> None:
                outer.answer(self, False)

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("localhost", 0), Handler)
        self.url = f"http://localhost:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        listed = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.files.items()]
        resolved = path.rpartition(f"/owner/model/resolve/{COMMIT}/")[2]
        content, headers = None, {}
        status = 404
        if self.refuse is not None:
            status, headers["X-Error-Code"] = self.refuse
        elif path.startswith("/api/models/owner/model/tree/"):
            content = json.dumps(listed).encode()
        elif path in ("/api/models/owner/model", "/api/models/owner/model/revision/main"):
            siblings = [{"rfilename": name} for name in self.files]
            content = json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": siblings, "private": False}).encode()
        elif path.startswith("/api/models/owner/model/revision/"):
            headers["X-Error-Code"] = "RevisionNotFound"
        elif path.startswith("/api/models/"):
            headers["X-Error-Code"] = "RepoNotFound"
        elif resolved in self.files:
            content = self.files[resolved]
            headers |= {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        request.send_response(200 if content is not None else status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content or b"")))
        request.end_headers()
        if body and content:
            request.wfile.write(content)


def weights(tmp_path: Path) -> bytes:
    save_file({"x": np.ones(3, np.float32)}, tmp_path / "made.safetensors")
    return (tmp_path / "made.safetensors").read_bytes()


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    one = weights(tmp_path)
    index = {"metadata": {}, "weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}}
    hub_server = Server(
        {
            "config.json": b"{}",
            "model.safetensors.index.json": json.dumps(index).encode(),
            "model-00001-of-00002.safetensors": one,
            "model-00002-of-00002.safetensors": one,
            "pytorch_model.bin": b"a pickle",
            "consolidated.safetensors": one,
            "original/model.safetensors": one,
            "tokenizer.json": b"{}",
            "modeling_own.py": b"raise SystemExit",
        }
    )
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub_server.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub_server
    hub_server.http.shutdown()
    hub_server.http.server_close()


def test_a_directory_is_itself_and_asks_nobody(tmp_path, server):
    assert hub.snapshot(str(tmp_path), "weights") == tmp_path
    assert hub.is_local(str(tmp_path))
    assert not server.asked


def test_only_weights_json_and_tokenizer_files_are_fetched(server):
    path = hub.snapshot("owner/model", "weights")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert sorted(file.name for file in path.iterdir()) == ["config.json", *shards, "model.safetensors.index.json"]
    assert hub.origin(path) == hub.Reference("owner/model", COMMIT)
    assert hub.commit(path) == COMMIT
    assert hub.snapshot("owner/model", "tokenizer") == path
    assert (path / "tokenizer.json").exists()
    fetched = {asked.rpartition("/")[2] for asked in server.asked}
    assert not fetched & {"pytorch_model.bin", "modeling_own.py", "consolidated.safetensors"}
    assert not any("original/" in asked for asked in server.asked)


def test_what_the_cache_holds_whole_is_taken_without_asking(server):
    path = hub.snapshot("owner/model", "weights")
    server.asked.clear()
    server.refuse = (500, "")
    assert hub.snapshot("owner/model", "weights") == path
    assert hub.snapshot(f"owner/model@{COMMIT}", "weights") == path
    assert not server.asked


def test_an_incomplete_cache_is_completed_or_named(server):
    path = hub.snapshot("owner/model", "weights")
    shard = path / "model-00002-of-00002.safetensors"
    shard.unlink()
    server.refuse = (503, "")
    with pytest.raises(UserError, match=r"cached snapshot is incomplete \(it lacks model-00002-of-00002.safetensors\)"):
        hub.snapshot("owner/model", "weights")
    server.refuse = None
    assert hub.snapshot("owner/model", "weights") == path
    assert shard.exists()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "GatedRepo"), "the Hub model owner/model is gated: accept its terms"),
        ((401, "RepoNotFound"), "does not exist, or is private and needs your token"),
        ((404, "RepoNotFound"), "does not exist, or is private and needs your token"),
        ((404, "RevisionNotFound"), "the Hub model owner/model has no revision 'main'"),
    ],
)
def test_refusals_of_the_hub_are_one_sentence(server, refusal, words):
    server.refuse = refusal
    with pytest.raises(UserError, match=words) as caught:
        hub.snapshot("owner/model", "weights")
    assert "\n" not in str(caught.value)


def test_a_repository_of_pickles_is_refused(server):
    for name in [name for name in server.files if name.startswith("model")]:
        del server.files[name]
    with pytest.raises(UserError, match=r"neither model.safetensors nor .* never pickles or GGUF"):
        hub.snapshot("owner/model", "weights")


def test_without_a_network_the_sentence_says_what_would_serve(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://localhost:{free.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        UserError, match=r"cannot be reached .* give a local directory instead, .*hf download o/n --revision v1.*HF_HOME"
    ):
        hub.snapshot("o/n@v1", "weights")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the Hub model o/n is not here: .*cache has no copy, and HF_HUB_OFFLINE forbids"):
        hub.snapshot("o/n", "tokenizer")
    assert not (tmp_path / "cache").exists()


def test_a_hub_that_never_answers_is_given_up(tmp_path, monkeypatch):
    with socket.create_server(("localhost", 0)) as silent:  # the system accepts, nobody reads
        monkeypatch.setattr(constants, "ENDPOINT", f"http://localhost:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "PATIENCE", 0.2)
        with pytest.raises(UserError, match="cannot be reached"):
            hub.snapshot("owner/model", "weights")


def test_what_is_neither_a_directory_nor_an_id_is_refused(tmp_path):
    (tmp_path / "model.gguf").touch()
    for ref, words in (
        ("/no/such/place", "give a local directory, or a Hub id"),
        ("../elsewhere/model", "does not exist"),
        (str(tmp_path / "model.gguf"), "is a file; give the directory that holds it"),
    ):
        assert hub.is_local(ref)
        with pytest.raises(UserError, match=words):
            hub.snapshot(ref, "weights")


def test_the_commit_of_a_directory_made_by_the_hubs_own_tool(tmp_path):
    notes = tmp_path / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    assert hub.commit(tmp_path) is None
    (notes / "config.json.metadata").write_text(f"{COMMIT}\n0\n1.0\n")
    assert hub.commit(tmp_path) == COMMIT
    assert hub.origin(tmp_path) is None
