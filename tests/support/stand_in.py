"""A small server that speaks vLLM's routes and really serves: it loads the weights it is sent and samples from them.

What it gets wrong, it gets wrong on a test's order. The real vLLM is tested in test_vllm_faults.py.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Problem, SamplingParams


class StandIn:
    """One server on a free port of this machine.

    Args:
        policy: its own copy of the model; the learner's is another object.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.engine = policy, TorchEngine(policy, 64)
        self.version = "0"
        self.relabel: str | None = None
        """What it calls every version it is sent."""
        self.slow: set[int] = set()
        """Prompts (by their last token) that are sampled until somebody aborts them."""
        self.asked: list[int] = []
        self.aborted: list[str] = []
        self.loads = 0
        self.changed = threading.Condition()
        self.model_lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"stand_in": self}))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        with self.changed:
            self.slow.clear()
            self.changed.notify_all()

    def load(self, info: dict[str, Any]) -> None:
        bytes_N = torch.from_file(info["path"], size=info["size"], dtype=torch.uint8)
        parameters = dict(self.policy.model.named_parameters())
        with torch.no_grad(), self.model_lock:
            for name, shape, at in zip(info["names"], info["shapes"], info["offsets"], strict=True):
                raw = bytes_N[at : at + 4 * torch.Size(shape).numel()]
                parameters[name].copy_(raw.view(torch.float32).view(shape))
        self.loads += 1

    def score(self, ids: list[int]) -> list[dict[str, dict[str, float]] | None]:
        with torch.no_grad(), self.model_lock:
            forward = PolicyForward(self.policy.model.eval(), 1.0, 4096, None)
            logps, _ = forward(PackedTokens.build([ids], [1], torch.device("cpu")))
        return [None, *({str(t): {"logprob": lp}} for t, lp in zip(ids[1:], logps.tolist(), strict=True))]

    def sample(self, ids: list[int], wanted: dict[str, Any], name: str) -> list[dict[str, Any]]:
        self.asked.append(ids[-1])
        with self.changed:
            self.changed.wait_for(lambda: ids[-1] not in self.slow or name in self.aborted)
            if name in self.aborted:
                return [_choice(i, [], [], "abort", self.version) for i in range(wanted["n"])]
        seeds = tuple(wanted["seed"] + i for i in range(wanted["n"]))
        params = SamplingParams(wanted["max_tokens"], wanted["temperature"])
        with self.model_lock:
            [group] = complete(self.engine, [Request(Problem("", tuple(ids), ""), seeds)], params)
        return [_choice(i, c.token_ids.tolist(), c.logps.tolist(), c.finish, self.version) for i, c in enumerate(group)]

    def abort(self, names: list[str]) -> None:
        with self.changed:
            self.aborted += names
            self.changed.notify_all()


def _choice(index: int, ids: list[int], logps: list[float], finish: str, version: str) -> dict[str, Any]:
    return {
        "index": index,
        "token_ids": ids,
        "logprobs": {"content": [{"logprob": lp} for lp in logps]},
        "finish_reason": finish,
        "weight_versions": [{"version": version, "start": 0, "end": len(ids)}],
    }


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.stand_in
        self._answer({"/health": {}, "/weight_info": {"weight_version": server.version}}[self.path])

    def do_POST(self) -> None:
        server, body = self.stand_in, json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        if path == "/update_weights":
            server.load(body["update_info"])
        elif path == "/finish_weight_update" and "weight_version" in body:
            server.version = server.relabel or body["weight_version"]
        elif path == "/abort_requests":
            server.abort(body["request_ids"])
        elif path == "/inference/v1/generate":
            ids, wanted = body["token_ids"], body["sampling_params"]
            if "prompt_logprobs" in wanted:
                return self._answer({"prompt_logprobs": server.score(ids)})
            return self._answer({"choices": server.sample(ids, wanted, f"generate-tokens-{body['request_id']}")})
        return self._answer({})

    def _answer(self, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None: ...
