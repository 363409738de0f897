"""One request to an OpenAI-compatible server, through the `openai` client with its own retries off.

Whatever goes wrong is `Again` (worth another attempt) or a `UserError` (not worth one, with what to do). The key is read from the
environment, given to the client, and taken out of every text that comes back.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import html
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers.served import address
from w2sr_jax.teachers.served.answer import Answer, Failed, Malformed, parse
from w2sr_jax.teachers.served.rate_limit import retry_after

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Served

LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more has no use for a client that waits."""

_CONNECT = 15.0  # seconds until a connection stands
# Bytes that an answer may have: at most, for each of its tokens, and for each of the most probable ones beside it.
_HEADER, _PER_TOKEN, _PER_ENTRY = 1 << 20, 1 << 10, 1 << 9
_REFUSAL = 1 << 16  # bytes that are read of a refusal
_SECRET = 8  # characters from which on a key is taken out of texts: shorter ones are stand-ins like EMPTY
_PUBLIC = "OPENAI_API_KEY"
_URLSAFE = str.maketrans("+/", "-_")
_HEADERS = frozenset(
    ("host", "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "user-agent")
)
_TRANSIENT = (408, 409, 425, 429)


class Again(Exception):
    """An attempt that failed in passing. `wait` is how long the server asks to be left alone."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.wait = wait


class _Refused(Exception):
    """A status that is no success, with what could be read of its body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


class _Packed(Exception):
    """A body that nobody packs for a good reason."""


class Server:
    """A connection to a teacher's server, inside `async with`."""

    def __init__(self, settings: Served) -> None:
        self._settings = settings
        self._where = f"teacher {settings.name!r}"
        self._key = _key(settings, self._where)
        self._largest = _HEADER + (_PER_TOKEN + _PER_ENTRY * settings.top_logprobs) * settings.max_tokens

    async def __aenter__(self) -> Self:
        import openai

        settings = self._settings
        hooks: dict[str, list[Any]] = {"request": [self._sign], "response": [_check_coding, _check_status]}
        try:
            # Proxies are not asked for this machine.
            http = openai.DefaultAsyncHttpxClient(trust_env=not address.loopback(settings.url), event_hooks=hooks)
        except Exception as error:  # what it quotes may hold a proxy's password
            raise UserError(
                f"{self._where}: the proxies that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used "
                f"({type(error).__name__}); correct them, or name the server in NO_PROXY"
            ) from None
        http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        timeout = openai.Timeout(settings.timeout, connect=min(settings.timeout, _CONNECT))
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=settings.url, timeout=timeout, max_retries=0, http_client=http
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.close()

    def clean(self, text: str) -> str:
        """A text without the key, in any of its encodings."""
        return self._spellings.sub("[key]", text) if len(self._key) >= _SECRET else text

    @functools.cached_property
    def _spellings(self) -> re.Pattern[str]:
        key, coded = self._key, base64.b64encode(self._key.encode()).decode()
        quoted = (urllib.parse.quote(key, safe=safe) for safe in ("", "/"))
        ways = {key, *quoted, html.escape(key), key.replace("/", "\\/"), coded.rstrip("="), coded.translate(_URLSAFE).rstrip("=")}
        return re.compile("|".join(map(re.escape, sorted(ways, key=len, reverse=True))), re.I)

    async def _sign(self, request: Any) -> None:
        """Remove all headers that the API does not need: the client adds values from the environment that are meant for OpenAI
        itself."""
        request.headers["accept-encoding"] = "gzip"
        if address.openai(self._settings.url):
            return
        for name in list(request.headers):
            if name.lower() not in _HEADERS and not name.lower().startswith("x-stainless-"):
                del request.headers[name]
        request.headers["authorization"] = f"Bearer {self._key or 'none'}"

    async def complete(self, body: Mapping[str, Any], about: str) -> Answer:
        """The answer to a request. `about` is what a sentence calls the request. Raises Again and UserError."""
        chat = self._settings.api == "chat"
        resource: Any = self._client.chat.completions if chat else self._client.completions
        own = {name: body[name] for name in ("model", "messages" if chat else "prompt")}
        rest = {name: value for name, value in body.items() if name not in own}
        raw = await self._bytes(resource.with_streaming_response.create(**own, extra_body=rest), about)
        try:
            return parse(raw, self.clean, self._settings.top_logprobs > 0)
        except Failed as error:
            again = Again(f"the answer of {self._settings.url} is none: {error}")
            status, reply = error.status, error.body
        except Malformed as error:
            raise Again(f"the answer of {self._settings.url} is malformed: {error}") from None
        raise again if status is None else self._meaning(_Refused(status, {}, reply), about)

    async def models(self) -> list[str]:
        """Names of the models that the server lists. Raises Again and UserError."""
        raw = await self._bytes(self._client.models.with_streaming_response.list(), "the list of models")
        try:
            return [self.clean(str(model["id"])) for model in json.loads(raw)["data"]]
        except (ValueError, RecursionError, TypeError, KeyError):
            raise Again("the list of models is malformed") from None

    async def _bytes(self, sending: Any, about: str) -> bytes:
        limit = self._settings.timeout
        try:
            # The client's own limit is for each read: a server that sends a byte now and then would never reach it.
            async with asyncio.timeout(limit), sending as response:
                parts, size = [], 0
                async for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > self._largest:
                        raise Again(f"the answer is larger than {self._largest:,} bytes")
                return b"".join(parts)
        except Again:
            raise
        except Exception as error:
            refused = next((each for each in (error, error.__cause__) if isinstance(each, _Refused)), None)
            failed = Again(_failure(error, self.clean, limit)) if refused is None else self._meaning(refused, about)
        # Raised outside of the handler, it has no cause whose text could quote the key.
        raise failed

    def _meaning(self, refused: _Refused, about: str) -> Again | UserError:
        """The exception for a refusal: `Again` where another attempt may help, else the sentence for the user."""
        status, url = refused.status, self._settings.url
        code, message = self._refusal_text(refused.body)
        reply = f"{status}: {message}" if message else f"{status}"
        spent = status == 402 or code == "insufficient_quota"
        if (status in _TRANSIENT or status >= 500) and not spent:
            wait = retry_after(refused.headers)
            if wait is not None and wait > LONGEST_WAIT:
                later = f"asks to be left alone for {wait:,.0f} seconds"
                return UserError(f"{self._where}: {url} {later} ({reply}); run the same command again then")
            return Again(f"{url} answers {reply}", wait)
        variable = self._settings.key_env
        sender = f"requests with the key in {variable}" if self._key else "requests without a key"
        if spent:
            return UserError(f"{self._where}: {url} has no credit left for {sender} ({reply}); top it up, or use another key")
        if status == 401:
            remedy = f"set the environment variable {variable} to" if variable else "set key_env to the variable that holds"
            return UserError(f"{self._where}: {url} does not accept {sender} ({reply}); {remedy} a valid key")
        if status == 403:
            return UserError(f"{self._where}: {url} forbids {sender} ({reply}); use a key that may ask {self._model()}")
        if status == 404:
            right = "set url to where its API begins, as in http://127.0.0.1:8000/v1, and model to one that it serves"
            return UserError(f"{self._where}: {url} does not know the path or {self._model()} ({reply}); {right}")
        if status < 400:
            target = sentences.shown(self.clean(refused.headers.get("location", "another address")))
            return UserError(f"{self._where}: {url} redirects to {target}; set url to where the API itself is")
        return UserError(
            f"{self._where}: {url} refuses {about} ({reply}); correct the teacher's settings, or leave that problem out"
        )

    def _model(self) -> str:
        return f"the model {sentences.value(self._settings.model)}"

    def _refusal_text(self, body: bytes) -> tuple[str, str]:
        """The code and the message in a refusal, printable, on one line."""
        code, message = "", body.decode(errors="replace")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            error = value.get("error", value)
            if isinstance(error, dict):
                code = str(error.get("code"))
                error = next((error[name] for name in ("message", "detail") if name in error), message)
            message = error if isinstance(error, str) else json.dumps(error)
        return code, sentences.shown(" ".join(self.clean(message).split()), 200)


def _key(settings: Served, where: str) -> str:
    """The key from the environment; "" where none is sent. `UserError` where one is needed or must not be sent."""
    name, local = settings.key_env, address.loopback(settings.url)
    key = os.environ.get(name, "").strip() if name else ""
    if not key:
        if name and address.encrypted(settings.url) and not local:
            raise UserError(
                f"{where} needs a key for {settings.url}: set the environment variable {name}, or key_env = '' for none"
            )
        return ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{where}: the environment variable {name} holds no key: a key has neither spaces nor special characters")
    if name == _PUBLIC and not local and not address.encrypted(settings.url):
        own = "use https, or set key_env to the variable with that server's own key, or to '' for none"
        raise UserError(f"{where} would send the key in {name} unencrypted to {settings.url}; {own}")
    return key


async def _check_coding(response: Any) -> None:
    """Raises _Packed for a body that is packed more than once: each layer could make a thousand bytes of one."""
    if "," in response.headers.get("content-encoding", ""):
        raise _Packed("its answer is packed more than once")


async def _check_status(response: Any) -> None:
    """Raises _Refused for a status that is no success, so that no redirect is followed; of its body no more is read than a
    sentence needs."""
    if response.status_code < 300:
        return
    body = b""
    async for part in response.aiter_bytes():
        body += part[: _REFUSAL - len(body)]
        if len(body) >= _REFUSAL:
            break
    raise _Refused(response.status_code, dict(response.headers), body)


def _failure(error: Exception, clean: Any, limit: float) -> str:
    """What cut an attempt off, in words."""
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return f"no whole answer within {limit:g} seconds"
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None else error
    if isinstance(cause, _Packed):
        return str(cause)
    return f"the connection failed ({clean(sentences.cause(cause))})"
