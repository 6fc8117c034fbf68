"""A client for OpenAI-compatible chat endpoints, with deadlines, retries and errors that name the cause."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from r1rl.errors import R1Error

T = TypeVar("T")

LONGEST_WAIT_S = 30.0
"""Longest wait between two attempts."""
LARGEST_REPLY = 16 << 20
"""Size limit of a reply, in bytes."""
_RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))


class ChatError(R1Error):
    """Every attempt failed to return a usable reply."""


class ChatTimeoutError(ChatError):
    """The last attempt timed out."""


class ChatRefusedError(ChatError):
    """The endpoint rejects the request itself, so a retry would not help.

    Args:
        status: HTTP status; None if the address is not valid.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint, with its time limit and retries."""

    url: str
    """Base address, for example ``http://localhost:8000/v1``."""
    model: str
    """Name of the model at the endpoint."""
    key_env: str | None = None
    """Environment variable with the API key; if it is not set, no key is sent."""
    timeout_s: float = 60.0
    """Time limit in seconds from a request to its complete reply."""
    retries: int = 3
    """Further attempts after a failed one."""
    backoff_s: float = 1.0
    """Wait before the first retry; doubled before each further one, up to :data:`LONGEST_WAIT_S`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request body, for example ``temperature``."""

    @property
    def route(self) -> str:
        return f"{self.url.rstrip('/')}/chat/completions"


class ChatClient:
    """An async context manager around the connections to one endpoint.

    Args:
        slots: limits concurrent requests; shared by all clients that the limit covers.
    """

    def __init__(self, endpoint: Endpoint, slots: asyncio.Semaphore) -> None:
        self.endpoint, self._slots = endpoint, slots
        unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(verify=_certificates(), timeout=None, limits=unbounded)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def ask(self, messages: Sequence[Mapping[str, str]], parse: Callable[[str], T]) -> T:
        """The result of ``parse`` for the reply.

        Args:
            parse: raises ValueError for a reply that should be requested again.

        Raises:
            ChatRefusedError: the endpoint rejects the request or its key.
            ChatTimeoutError: the last attempt took too long.
            ChatError: the last attempt failed, or its reply could not be parsed.
        """
        body = {"model": self.endpoint.model, **self.endpoint.options, "messages": list(messages)}
        content = json.dumps(body).encode()
        for attempt in range(self.endpoint.retries):
            try:
                return await self._attempt(content, parse)
            except ChatRefusedError:
                raise
            except ChatError:
                await asyncio.sleep(min(self.endpoint.backoff_s * 2**attempt, LONGEST_WAIT_S))
        return await self._attempt(content, parse)

    async def _attempt(self, content: bytes, parse: Callable[[str], T]) -> T:
        async with self._slots:
            reply = await self._within_deadline(content)
        return _parsed(reply, parse)

    async def _within_deadline(self, content: bytes) -> bytes:
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                return await self._post(content)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ChatTimeoutError(
                f"{self.endpoint.route} did not answer within {self.endpoint.timeout_s:g} s"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ChatRefusedError(f"{self.endpoint.route} is not an http:// or https:// address", None) from error
        except httpx.HTTPError as error:
            raise ChatError(f"{self.endpoint.route}: {type(error).__name__} {error}".rstrip()) from error

    async def _post(self, content: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.endpoint.key_env or ""):
            headers["Authorization"] = f"Bearer {key}"
        body = bytearray()
        async with self._http.stream("POST", self.endpoint.route, content=content, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_REPLY:
                    raise ChatError(f"{self.endpoint.route} sent more than {LARGEST_REPLY} bytes")
        if response.status_code in _RETRIED:
            raise ChatError(f"{self.endpoint.route} answered HTTP {response.status_code}")
        if not response.is_success:
            detail = bytes(body[:300]).decode("utf-8", "replace")
            raise ChatRefusedError(
                f"{self.endpoint.route} refuses with HTTP {response.status_code}: {detail}", response.status_code
            )
        return bytes(body)


def _parsed(reply: bytes, parse: Callable[[str], T]) -> T:
    try:
        return parse(str(json.loads(reply)["choices"][0]["message"]["content"]))
    except (KeyError, IndexError, TypeError) as error:
        raise ChatError("the reply is not a chat completion") from error
    except ValueError as error:
        raise ChatError(f"the reply cannot be used: {error}") from error


async def gathered(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of coroutines run concurrently. If one raises, the others end before its error is propagated."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Cached, because loading the certificates takes longer than a request to a nearby server."""
    return httpx.create_ssl_context()
