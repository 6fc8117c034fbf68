"""Log-probabilities of given tokens, without materialising [tokens, vocabulary] logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from r1rl.model.attention import Layout, Packed, Shared
from r1rl.model.device import pass_dtype, upload
from r1rl.model.head import body_and_head, cap_of, head_function, softcap
from r1rl.model.logprobs import linear_logps
from r1rl.model.ulysses import Split, Team

SHARE_FROM = 8
"""Shorter prompts are cheaper to recompute per completion than to share."""


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Sequences in one row of T tokens, with the C tokens to predict.

    ``predict_C`` are the positions in the row whose *next* token is predicted; ``targets_C`` are those next tokens,
    sequence by sequence in the given order. A prompt shared by several sequences occurs in the row once, before all of
    their completions.
    """

    ids_T: Tensor
    positions_T: Tensor
    layout: Layout
    predict_C: Tensor
    targets_C: Tensor
    places_C: Tensor
    """``predict_C`` in host memory, where a team's slices are cut without waiting for the device."""

    @classmethod
    def build(
        cls, sequences: Sequence[Sequence[int]], prompt_lengths: Sequence[int], device: torch.device
    ) -> PackedTokens:
        """Pack ``sequences``; every token after a sequence's prompt (at least one token) is predicted."""
        rows = [torch.as_tensor(sequence, dtype=torch.int64) for sequence in sequences]
        cuts = [max(prompt, 1) for prompt in prompt_lengths]
        prompts = [tuple(row[:cut].tolist()) for row, cut in zip(rows, cuts, strict=True)]
        pieces, places = _lay(rows, cuts, prompts)
        starts = [0, *accumulate(len(piece) for piece in pieces)]
        where = [torch.arange(len(piece)) for piece in pieces]
        predict: list[Tensor] = []
        for cut, sequence in zip(cuts, places, strict=True):
            head, tail = sequence[0], sequence[-1]
            if head == tail:  # the prompt and its completion are one piece
                predict.append(torch.arange(starts[head] + cut - 1, starts[head + 1] - 1))
            else:
                where[tail] += cut
                begun = [starts[head] + cut - 1] if len(pieces[tail]) else []
                predict.append(torch.tensor([*begun, *range(starts[tail], starts[tail + 1] - 1)], dtype=torch.int64))
        lengths, places_C = tuple(len(piece) for piece in pieces), torch.cat(predict)
        shared = any(len(sequence) > 1 for sequence in places)
        return cls(
            ids_T=upload(torch.cat(pieces), device),
            positions_T=upload(torch.cat(where), device),
            layout=Shared(lengths, places) if shared else Packed(lengths),
            predict_C=upload(places_C, device),
            targets_C=upload(torch.cat([row[cut:] for row, cut in zip(rows, cuts, strict=True)]), device),
            places_C=places_C,
        )

    def part(self, team: Team) -> tuple[PackedTokens, Tensor]:
        """This rank's slice of the row, and which targets belong to it, [C] bool."""
        width = team.width(len(self.ids_T))
        first = team.rank * width
        mine_C = (self.places_C >= first) & (self.places_C < first + width)
        places_M, device = self.places_C[mine_C] - first, self.ids_T.device
        part = PackedTokens(
            ids_T=team.slice(self.ids_T),
            positions_T=team.slice(self.positions_T),
            layout=Split(self.layout, len(self.ids_T), team),
            predict_C=upload(places_M, device),
            targets_C=self.targets_C[upload(mine_C.nonzero()[:, 0], device)],
            places_C=places_M,
        )
        return part, upload(mine_C, device)


def _lay(
    rows: Sequence[Tensor], cuts: Sequence[int], prompts: Sequence[tuple[int, ...]]
) -> tuple[list[Tensor], list[tuple[int, ...]]]:
    """The row's pieces, and for every sequence the indices of its pieces."""
    count = Counter(prompts)
    pieces: list[Tensor] = []
    places: list[tuple[int, ...]] = []
    seen: dict[tuple[int, ...], int] = {}
    for row, cut, prompt in zip(rows, cuts, prompts, strict=True):
        if count[prompt] == 1 or cut < SHARE_FROM:
            places.append((len(pieces),))
            pieces.append(row)
            continue
        if prompt not in seen:
            seen[prompt] = len(pieces)
            pieces.append(row[:cut])
        places.append((seen[prompt], len(pieces)))
        pieces.append(row[cut:])
    return pieces, places


class ChunkedHead(nn.Module):
    """Hidden states to log-probabilities, one chunk of tokens at a time; the backward pass recomputes the logits.

    One module call regardless of the number of chunks: ZeRO-3 gathers weights at module calls, and ranks with different
    numbers of calls would wait for each other forever (see :func:`r1rl.grpo.zero.gather_with`).

    Args:
        cap: bound of the logits, where the model has one, see :func:`r1rl.model.head.softcap`.
        fp32: compute the logits in float32, see :func:`r1rl.model.head.head_function`.
        entropy_grad: let gradients flow through the entropies.
    """

    def __init__(
        self,
        head: nn.Module,
        chunk: int,
        temperature: float,
        cap: float | None = None,
        fp32: bool = True,
        entropy_grad: bool = False,
    ) -> None:
        super().__init__()
        self.head, self.chunk, self.temperature, self.cap, self.fp32 = head, chunk, temperature, cap, fp32
        self.entropy_grad = entropy_grad

    def forward(self, hidden_CE: Tensor, targets_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        if type(self.head) is not nn.Linear or self.cap is not None:
            return self._by_autograd(hidden_CE, targets_C, entropy)
        weight, bias = self.head.weight, self.head.bias  # not called as a module: see the class docstring
        dtype = torch.float32 if self.fp32 else pass_dtype(weight)
        hidden_CE, weight_VE, bias_V = hidden_CE.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return linear_logps(
            hidden_CE, weight_VE, bias_V, targets_C,
            chunk=self.chunk, temperature=self.temperature, entropy=entropy, entropy_grad=self.entropy_grad,
        )  # fmt: skip

    def _by_autograd(self, hidden_CE: Tensor, targets_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        """For heads that are not one matrix product: with adapters, quantized, or with a soft cap."""
        apply = head_function(self.head, self.fp32)
        chunks = zip(hidden_CE.split(self.chunk), targets_C.split(self.chunk), strict=True)
        pieces = [self._chunk(apply, hidden, targets, entropy) for hidden, targets in chunks]
        return torch.cat([logps for logps, _ in pieces]), torch.cat([e for _, e in pieces])

    def _chunk(
        self, apply: Callable[[Tensor], Tensor], hidden_CE: Tensor, targets_C: Tensor, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        def run(hidden_CE: Tensor) -> tuple[Tensor, Tensor]:
            logits_CV = softcap(apply(hidden_CE), self.cap).float() / self.temperature
            lse_C = logits_CV.logsumexp(-1)
            logps_C = logits_CV.gather(-1, targets_C[:, None])[:, 0] - lse_C
            with torch.set_grad_enabled(self.entropy_grad and torch.is_grad_enabled()):
                entropy_C = _entropy(logits_CV, lse_C) if entropy else lse_C.new_zeros(0)
            return logps_C, entropy_C

        if torch.is_grad_enabled():
            result: tuple[Tensor, Tensor] = checkpoint(run, hidden_CE, use_reentrant=False, preserve_rng_state=False)
            return result
        return run(hidden_CE)


class PolicyForward(nn.Module):
    """Body and chunked head in one ``forward``, so that DDP and ZeRO see every parameter used inside it.

    Args:
        model: a causal language model loaded by :func:`r1rl.model.load.load_model`.
        temperature: divides the logits, as it did when the tokens were sampled.
        chunk: number of tokens whose logits are in memory at once; the backward pass recomputes them.
        autocast: precision of the pass; log-probabilities are float32 in any case.
        fp32_head: compute the logits in float32 regardless of ``autocast``.
        entropy_grad: let gradients flow through the entropies, for a loss that contains them.
        team: ranks that compute every row together; each receives the same tokens and all results.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        temperature: float,
        chunk: int,
        autocast: torch.dtype | None = None,
        team: Team | None = None,
        fp32_head: bool = True,
        entropy_grad: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = ChunkedHead(body_and_head(model)[1], chunk, temperature, cap_of(model), fp32_head, entropy_grad)
        self.autocast, self.team = autocast, team

    def forward(self, tokens: PackedTokens, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the targets in nats, [C] float32; and the entropies at those positions, [C], if
        requested."""
        if self.team is None:
            return self._compute(tokens, entropy)
        part, mine_C = tokens.part(self.team)
        logps_M, entropy_M = self._compute(part, entropy)
        logps_C = self.team.join(logps_M, mine_C)
        return logps_C, None if entropy_M is None else self.team.join(entropy_M, mine_C)

    def _compute(self, tokens: PackedTokens, entropy: bool) -> tuple[Tensor, Tensor | None]:
        body, _ = body_and_head(self.model)
        device = tokens.ids_T.device
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            hidden_TE = body(
                input_ids=tokens.ids_T[None],
                position_ids=tokens.positions_T[None],
                layout=tokens.layout,
                use_cache=False,
            ).last_hidden_state[0]
            logps_C, entropy_C = self.head(hidden_TE[tokens.predict_C], tokens.targets_C, entropy)
        return logps_C, entropy_C if entropy else None


def _entropy(logits_CV: Tensor, lse_C: Tensor) -> Tensor:
    probs_CV = logits_CV.sub(lse_C[:, None]).exp_()
    # In place only where no backward pass needs the probabilities.
    products_CV = probs_CV * logits_CV if probs_CV.requires_grad else probs_CV.mul_(logits_CV)
    return lse_C - products_CV.sum(-1)
