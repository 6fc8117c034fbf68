"""The client against endpoints on this machine that are slow, wrong, or not there."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1rl import openai_client
from r1rl.openai_client import ChatClient, ChatError, ChatRefusedError, ChatTimeoutError, Endpoint, gathered
from tests.support.waits import HANG_S

MESSAGES = [{"role": "user", "content": "2 + 2? \ud800"}]


class Handler(BaseHTTPRequestHandler):
    """Sends the server's next answer: a status, bytes, or a number of seconds in which a byte drips now and then."""

    def do_POST(self) -> None:
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        answer = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        end = time.monotonic() + (answer if isinstance(answer, float) else 0.0)
        while time.monotonic() < end:
            self.wfile.write(b" ")
            time.sleep(0.02)
        self.wfile.write(answer if isinstance(answer, bytes) else b"as it is")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is part of the tests."""


@pytest.fixture
def server() -> Iterator[Any]:
    running: Any = Server(("127.0.0.1", 0), Handler)
    running.answers, running.seen = [], []
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def said(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def ask(server: Any, parse: Any = str, **settings: Any) -> Any:
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    endpoint = Endpoint(url, "m", **{"backoff_s": 0.01, "timeout_s": HANG_S, **settings})

    async def once() -> Any:
        async with ChatClient(endpoint, asyncio.Semaphore(1)) as chat:
            return await chat.ask(MESSAGES, parse)

    return asyncio.run(once())


def test_what_is_asked(server: Any) -> None:
    server.answers = [said("4")]
    assert ask(server, int, options={"temperature": 0.5, "messages": []}) == 4
    assert server.seen == [{"model": "m", "temperature": 0.5, "messages": MESSAGES}]


def test_attempts_end_with_the_last_failure(server: Any) -> None:
    server.answers = [503, b"nothing", b'{"choices": []}', said("four"), said("4")]
    assert ask(server, int, retries=4) == 4
    server.answers = [503, said("four")]
    with pytest.raises(ChatError, match="the reply cannot be used: invalid literal"):
        ask(server, int, retries=1)
    server.answers = [said("four"), 503]
    with pytest.raises(ChatError, match=r"/v1/chat/completions answered HTTP 503"):
        ask(server, int, retries=1)


def test_a_reply_that_drips_is_late(server: Any) -> None:
    server.answers = [HANG_S]
    with pytest.raises(ChatTimeoutError, match=r"did not answer within 0\.2 s"):
        ask(server, timeout_s=0.2, retries=0)


def test_a_refusal_is_final(server: Any) -> None:
    server.answers = [401, said("4")]
    with pytest.raises(ChatRefusedError, match="refuses with HTTP 401: as it is") as refused:
        ask(server)
    assert refused.value.status == 401
    assert len(server.seen) == 1


def test_a_reply_without_end_is_given_up(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "LARGEST_REPLY", 10)
    server.answers = [said("4")]
    with pytest.raises(ChatError, match="sent more than 10 bytes"):
        ask(server, retries=0)


def test_an_address_that_is_none() -> None:
    async def once() -> None:
        async with ChatClient(Endpoint("localhost:8000/v1", "m"), asyncio.Semaphore(1)) as chat:
            await chat.ask(MESSAGES, str)

    with pytest.raises(ChatRefusedError, match="is not an http:// or https:// address"):
        asyncio.run(once())


def test_an_error_ends_what_runs_beside_it() -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(HANG_S)
        finally:
            ended.append("long")

    async def wrong() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(gathered([long(), wrong()]))
    assert ended == ["long"]
