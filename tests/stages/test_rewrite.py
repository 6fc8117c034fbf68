"""Rewriting by an endpoint: what comes back is verified again, what does not come back is dropped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from r1rl.config import RewardConfig, RunConfig
from r1rl.data.rejection import Sieve
from r1rl.errors import ConfigError
from r1rl.stages.rewrite import rewrite
from r1rl.tracking.console import Console


class Endpoint(BaseHTTPRequestHandler):
    """Answers like an OpenAI-compatible server: well, wrongly, or not at all, by what it is asked."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012 (one server a test)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        asked = body["messages"][0]["content"]
        if "What is 1+1?" in asked:
            return self.reply({"choices": [{"message": {"content": " <think>one and one</think> 2"}}]})
        if "What is secret?" in asked:
            return self.reply({"error": "no key"}, 401)
        if "What is too long?" in asked:
            return self.reply({"error": "too long"}, 400)
        if "What is 2+2?" in asked:
            return self.reply({"choices": [{"message": {"content": " <think>two and two</think> 5"}}]})
        return self.reply({"error": "overloaded"}, 503)

    def reply(self, value: Any, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def url() -> Iterator[str]:
    Endpoint.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def config(url: str, **more: Any) -> RunConfig:
    rewriting = {"url": url, "model": "judge", "retries": 0, "timeout_s": 5, **more}
    return RunConfig.model_validate({"rewards": {"accuracy": 1.0}, "sample": {"rewrite": rewriting}})


def row(question: str, answer: str) -> dict[str, Any]:
    return {
        "id": question,
        "problem": question,
        "source": "s",
        "question": question,
        "answer": answer,
        "response": f" <think>hm</think> {answer}",
        "prompt": question,
        "columns": {},
        "sample": 0,
        "tokens": 9,
        "finish": "stop",
        "reward": 1.0,
        "rewards": {"accuracy": 1.0},
    }


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


def test_rewritten_rows_are_verified_again(url: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    sieve = Sieve([row("What is 1+1?", "2"), row("What is 2+2?", "4"), row("What is 3+3?", "6")])
    rewrite(sieve, config(url, api_key_env="JUDGE_KEY"), Console(quiet=True), tokenizer)
    assert [(r["question"], r["dropped"]) for r in sieve.dropped] == [("What is 3+3?", "rewrite")]
    assert [r["response"] for r in sieve.rows] == [" <think>one and one</think> 2", " <think>two and two</think> 5"]
    assert sieve.rows[0]["original"] == " <think>hm</think> 2"
    sieve.verify({"accuracy": 0.5})
    assert [r["question"] for r in sieve.rows] == ["What is 1+1?"]
    assert {entry["path"] for entry in Endpoint.seen} == {"/v1/chat/completions"}
    assert {entry["key"] for entry in Endpoint.seen} == {"Bearer secret"}


def test_a_missing_key_is_said_at_once(url: str, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="the environment has no NO_SUCH_KEY"):
        rewrite(Sieve([]), config(url, api_key_env="NO_SUCH_KEY"), Console(quiet=True), tokenizer)


def test_a_refusal_of_one_sample_drops_it_and_of_the_key_ends_the_stage(url: str, tokenizer: Any) -> None:
    sieve = Sieve([row("What is 1+1?", "2"), row("What is too long?", "2")])
    rewrite(sieve, config(url), Console(quiet=True), tokenizer)
    assert [(r["question"], r["dropped"]) for r in sieve.dropped] == [("What is too long?", "rewrite")]
    refused = r"sample.rewrite: .*refuses with HTTP 401: .*no key.*check its url, its model and the key in api_key_env"
    with pytest.raises(ConfigError, match=refused):
        rewrite(Sieve([row("What is secret?", "2")]), config(url), Console(quiet=True), tokenizer)


def test_a_conversation_is_shown_with_who_said_what(url: str, tokenizer: Any) -> None:
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What is 1+1?"}]
    sieve = Sieve([row("", "2") | {"question": talk, "prompt": talk}])
    rewrite(sieve, config(url), Console(quiet=True), tokenizer)
    assert (
        "Question:\nsystem: Be kind.\n\nuser: What is 1+1?\n\nResponse:" in Endpoint.seen[0]["messages"][0]["content"]
    )
    assert [each["response"] for each in sieve.rows] == [" <think>one and one</think> 2"]


def test_rewards_see_the_tokens_of_the_rewriting(url: str, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(
        "def tokens(completions, completion_ids):\n    return [len(ids) for ids in completion_ids]\n"
    )
    cfg = config(url)
    cfg.rewards["tokens"] = RewardConfig(function=f"{tmp_path / 'rewards.py'}:tokens", weight=0.5)
    sieve = Sieve([row("What is 1+1?", "2")])
    rewrite(sieve, cfg, Console(quiet=True), tokenizer)
    [kept] = sieve.rows
    length = len(tokenizer(" <think>one and one</think> 2")["input_ids"]) + 1
    assert kept["tokens"] == length
    assert kept["rewards"] == {"accuracy": 1.0, "tokens": length}
    assert kept["reward"] == 1.0 + length / 2
