"""Log-probabilities of chosen tokens, without ever holding [tokens, vocabulary]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from r1rl.model.attention import Packed, positions
from r1rl.model.load import body_and_head, softcap


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Sequences laid end to end, and which of their tokens are to be predicted.

    ``predict_C`` are places in the pack whose *next* token is wanted; ``targets_C`` are those next tokens.
    """

    ids_T: Tensor
    lengths: tuple[int, ...]
    predict_C: Tensor
    targets_C: Tensor

    @classmethod
    def build(
        cls, sequences: Sequence[Sequence[int]], prompt_lengths: Sequence[int], device: torch.device
    ) -> PackedTokens:
        """Pack ``sequences``; every token after a sequence's prompt (at least one token long) is predicted."""
        ids, predict, targets, start = [], [], [], 0
        for sequence, prompt in zip(sequences, prompt_lengths, strict=True):
            row = torch.as_tensor(sequence, dtype=torch.int64)
            first = max(prompt, 1)
            ids.append(row)
            targets.append(row[first:])
            predict.append(torch.arange(start + first - 1, start + len(row) - 1))
            start += len(row)
        lengths = tuple(len(row) for row in ids)
        return cls(torch.cat(ids).to(device), lengths, torch.cat(predict).to(device), torch.cat(targets).to(device))


class ChunkedHead(nn.Module):
    """Hidden states to log-probabilities, a chunk of tokens at a time; the logits are recomputed in the backward pass.

    One module call whatever the number of chunks: ZeRO-3 gathers weights at module calls, and ranks that made
    different numbers of them would wait for each other for ever (``r1rl.grpo.zero`` marks this class as a leaf).

    Args:
        cap: applied to the logits.
    """

    def __init__(self, head: nn.Module, chunk: int, temperature: float, cap: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.chunk, self.temperature, self.cap = head, chunk, temperature, cap

    def forward(self, hidden_CE: Tensor, targets_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        chunks = zip(hidden_CE.split(self.chunk), targets_C.split(self.chunk), strict=True)
        pieces = [self._chunk(hidden, targets, entropy) for hidden, targets in chunks]
        return torch.cat([logps for logps, _ in pieces]), torch.cat([e for _, e in pieces])

    def _chunk(self, hidden_CE: Tensor, targets_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        def run(hidden_CE: Tensor) -> tuple[Tensor, Tensor]:
            logits_CV = self.cap(self._logits(hidden_CE)).float() / self.temperature
            lse_C = logits_CV.logsumexp(-1)
            logps_C = logits_CV.gather(-1, targets_C[:, None])[:, 0] - lse_C
            with torch.no_grad():
                entropy_C = _entropy(logits_CV, lse_C) if entropy else lse_C.new_zeros(0)
            return logps_C, entropy_C

        if torch.is_grad_enabled():
            return checkpoint(run, hidden_CE, use_reentrant=False, preserve_rng_state=False)
        return run(hidden_CE)

    def _logits(self, hidden_CE: Tensor) -> Tensor:
        # By its weight, not as a module: see the class.
        head = self.head
        return F.linear(hidden_CE, head.weight, head.bias) if type(head) is nn.Linear else head(hidden_CE)


class PolicyForward(nn.Module):
    """Body and chunked head in one ``forward``, so that DDP and ZeRO see every parameter used inside it.

    Args:
        model: a causal language model loaded by :func:`r1rl.model.load.load_model`.
        temperature: the logits are divided by it, as they were when the tokens were sampled.
        chunk: tokens whose logits exist at once; they are recomputed in the backward pass.
        autocast: precision of the pass; log-probabilities are float32 in any case.
    """

    def __init__(self, model: PreTrainedModel, temperature: float, chunk: int, autocast: torch.dtype | None = None):
        super().__init__()
        self.model = model
        self.head = ChunkedHead(body_and_head(model)[1], chunk, temperature, partial(softcap, model=model))
        self.autocast = autocast

    def forward(self, tokens: PackedTokens, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the targets, nats, [C] float32; and the entropies of those places, [C], if asked."""
        body, _ = body_and_head(self.model)
        device = tokens.ids_T.device
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            hidden_TE = body(
                input_ids=tokens.ids_T[None],
                position_ids=positions(tokens.lengths, device),
                layout=Packed(tokens.lengths),
                use_cache=False,
            ).last_hidden_state[0]
            logps_C, entropy_C = self.head(hidden_TE[tokens.predict_C], tokens.targets_C, entropy)
        return logps_C, entropy_C if entropy else None


def _entropy(logits_CV: Tensor, lse_C: Tensor) -> Tensor:
    return lse_C - (logits_CV.sub(lse_C[:, None]).exp_().mul_(logits_CV)).sum(-1)
