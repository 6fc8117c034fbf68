"""One vLLM server over HTTP: completions, and the routes that move weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from r1rl.errors import EngineError
from r1rl.rollout.vllm.wire import Span

Answer = tuple[list[int], list[float], str, list[Span]]
"""Token ids, their log-probabilities, the finish reason, and the weight versions by span."""

CONNECT_S = 10.0


class ServerError(EngineError):
    """A server did not answer, or its answer is invalid: another server may succeed."""


class RefusedError(EngineError):
    """A server rejected the request itself: a retry will not help."""


class Client:
    """A server's address with a connection pool; safe to use from many threads.

    Args:
        request_s, sync_s: deadline of a request for completions, and of a step of a weight sync.
    """

    def __init__(self, url: str, key: str | None, *, request_s: float, sync_s: float) -> None:
        self.url, self.key, self.request_s, self.sync_s = url.rstrip("/"), key, request_s, sync_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, limits=httpx.Limits(max_connections=None), trust_env=False
        )

    def renewed(self, url: str) -> Client:
        """A client for the process that takes this one's place: another object, so that nothing which was agreed with
        the old process is taken for agreed with the new one."""
        self.close()
        return Client(url, self.key, request_s=self.request_s, sync_s=self.sync_s)

    def generate(self, prompt: Sequence[int], sampling: dict[str, Any], salt: str, name: str) -> list[Answer]:
        """``sampling["n"]`` completions. Cached prefixes are shared among requests of the same ``salt`` only.

        Args:
            name: unique name of the request, for :meth:`abort`.
        """
        body = {"request_id": name, "token_ids": list(prompt), "sampling_params": sampling, "cache_salt": salt}
        answer = self._post("/inference/v1/generate", body, self.request_s)
        with self._reading("completions"):
            return [_answer(choice) for choice in sorted(answer["choices"], key=lambda c: int(c["index"]))]

    def score(self, prompts: Sequence[Sequence[int]], timeout_s: float) -> list[list[float]]:
        """Log-probabilities of each prompt's tokens but the first; generates one token after each."""
        sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
        rows = []
        for prompt in prompts:
            body = {"token_ids": list(prompt), "sampling_params": sampling}
            answer = self._post("/inference/v1/generate", body, timeout_s)
            with self._reading("log-probabilities"):
                pairs = zip(answer["prompt_logprobs"][1:], prompt[1:], strict=True)
                rows.append([float(row[str(token)]["logprob"]) for row, token in pairs])
        return rows

    def healthy(self) -> bool:
        """Whether the server answers at all; its engine may still be broken."""
        try:
            with self._closable("/health"):
                return self._http.get("/health", timeout=CONNECT_S).status_code == 200
        except (httpx.HTTPError, ServerError):
            return False

    def version(self) -> str:
        answer = self._call("GET", "/weight_info", None, self.sync_s)
        with self._reading("its weight version"):
            return str(answer["weight_version"])

    def workers(self) -> int:
        """GPUs behind this server."""
        answer = self._call("GET", "/get_world_size", None, self.sync_s)
        with self._reading("its number of workers"):
            return int(answer["world_size"])

    def pause(self, recompute: bool) -> None:
        """Hold running requests; ``recompute`` drops their keys and values, and all cached prefixes."""
        self._post(f"/pause?mode=keep&clear_cache={str(recompute).lower()}", None, self.sync_s)

    def resume(self) -> None:
        self._post("/resume", None, self.sync_s)

    def abort(self, names: Sequence[str], timeout_s: float) -> None:
        """End these requests, wherever they are; each is answered with what it has so far."""
        if names:  # an empty list would abort all of them
            self._post("/abort_requests", {"request_ids": [f"generate-tokens-{n}" for n in names]}, timeout_s)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Join the trainer; a group joined before is left first, which vLLM does not do by itself."""
        self._post("/shutdown_weight_transfer_engine", None, self.sync_s)
        self._post("/init_weight_transfer_engine", {"init_info": init_info}, self.sync_s)

    def start_weight_update(self) -> None:
        try:
            self._post("/start_weight_update", None, self.sync_s)
        except ServerError as error:
            if "already active" not in str(error):
                raise
            self.finish_weight_update()  # an update that was interrupted; everything is sent again
            self._post("/start_weight_update", None, self.sync_s)

    def update_weights(self, update_info: Any) -> None:
        self._post("/update_weights", {"update_info": update_info}, self.sync_s)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        body = None if weight_version is None else {"weight_version": weight_version}
        self._post("/finish_weight_update", body, self.sync_s)

    def close(self) -> None:
        """Running and later calls raise ServerError."""
        self._http.close()

    @contextmanager
    def _closable(self, path: str) -> Iterator[None]:
        """Another thread may close the client at any moment, which httpx reports as a RuntimeError or worse."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            if not self._http.is_closed:
                raise
            raise ServerError(f"{self.url}{path}: its client was closed") from error

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Converts errors in reading a server's answer to ServerError."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerError(f"{self.url} sent {what} that cannot be read: {error!r}") from error

    def _post(self, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
        return self._call("POST", path, body, timeout_s)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
        limits = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        # vLLM drops the connection after an error, so the next call on a kept one would fail, too.
        headers = {} if path.startswith("/inference") else {"Connection": "close"}
        try:
            with self._closable(path):
                response = self._http.request(method, path, json=body, timeout=limits, headers=headers)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServerError(f"{self.url}{path}: {type(error).__name__} {error}".rstrip()) from error
        if response.status_code == 200:
            return answer
        kind = RefusedError if 400 <= response.status_code < 500 else ServerError
        raise kind(f"{self.url}{path} answered {response.status_code}: {_message(answer)}")


def _answer(choice: dict[str, Any]) -> Answer:
    ids = [int(token) for token in choice["token_ids"]]
    logps = [float(row["logprob"]) for row in choice["logprobs"]["content"] or ()] if ids else []
    if len(logps) != len(ids):
        raise ValueError(f"{len(ids)} tokens with {len(logps)} log-probabilities")
    spans = [(str(s["version"]), int(s["start"]), int(s["end"])) for s in choice["weight_versions"] or ()]
    return ids, logps, str(choice["finish_reason"]), spans


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
