"""Checks on a few tokens, each time a model is loaded, that r1rl computes the same function as the model itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from r1rl.errors import ModelError, first_line
from r1rl.model.attention import NAME, Layout, Packed, UnpassedLayout, positions
from r1rl.model.head import body_and_head, cap_of, softcap

LENGTH = 6
"""Length in tokens of each of the two compared sequences; longer than the span of a short convolution."""
CUTS = (3, 4)
"""Number of cached tokens of each sequence when the next one is decoded."""
TOLERANCE, LOW_TOLERANCE = 1e-3, 0.1
"""Relative to the standard deviation of the logits: the largest difference for float32 weights (rounding alone gives
1e-6 to 1e-4), and the mean difference for lower precision (bfloat16 gives 0.003, and more with depth)."""
_FULL = ("full_attention", "attention")


def check_architecture(model: PreTrainedModel, device: torch.device | None = None) -> None:
    """Compare r1rl's forward passes with the model's own eager attention on two short sequences, so that an unsupported
    architecture is rejected rather than trained as a different function: both sequences packed in one row against each
    alone, and one decoded token against the full pass. Four passes of at most twelve tokens.

    Args:
        device: on which the model computes; None is where its weights are.

    Raises:
        ModelError: the architecture is not supported; names it and the reason.
    """
    name = type(model).__name__
    if not getattr(model, "_supports_attention_backend", False):
        raise ModelError(f"{name} does not accept a custom attention function in this version of transformers")
    _check_layers(model)
    was_training = model.training
    model.eval()
    try:
        reason = _difference(model, device)
    except UnpassedLayout as error:
        raise ModelError(f"{name} does not pass keyword arguments on to its attention, which r1rl requires") from error
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, NotImplementedError) as error:
        reason = f"fails with r1rl's attention ({first_line(error)})"
    finally:
        model.train(was_training)
    if reason is not None:
        raise ModelError(f"{name} {reason}; r1rl does not support this architecture")


def _check_layers(model: PreTrainedModel) -> None:
    config: Any = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    windowed = getattr(config, "sliding_window", None) is not None
    known = _FULL if windowed else (*_FULL, "sliding_attention")
    others = sorted({str(kind) for kind in kinds} - set(known))
    if others:
        raise ModelError(
            f"{type(model).__name__} has layers of type {', '.join(others)}: r1rl packs sequences and caches keys and "
            "values, which is right for full attention only; choose another base model"
        )


@torch.no_grad()
def _difference(model: PreTrainedModel, device: torch.device | None) -> str | None:
    """What r1rl computes differently from the model; None if nothing."""
    ids_BT = _tokens(model, device)
    packed_BTV = _logits(model, ids_BT.reshape(1, -1), Packed((LENGTH, LENGTH))).view(2, LENGTH, -1)
    with _eager(model):
        own_BTV = model(input_ids=ids_BT, use_cache=False).logits
    close = _Closeness(model, own_BTV)
    if not close(packed_BTV, own_BTV):
        alone_BTV = torch.cat([_logits(model, row[None], Packed((LENGTH,))) for row in ids_BT])
        if not close(packed_BTV, alone_BTV):
            return (
                "lets sequences packed in one row see each other: some of its layers carry a state from token to token "
                "(convolution, state-space or linear attention)"
            )
        headed = [model(input_ids=row[None], **_keywords(Packed((LENGTH,)), row.device)).logits for row in ids_BT]
        if not close(alone_BTV, torch.cat(headed)):
            return "changes its logits after the head in an unsupported way"
        return "computes different logits with r1rl's attention than with its own"
    if not close(_decoded(model, ids_BT), torch.stack([own_BTV[i, cut] for i, cut in enumerate(CUTS)])):
        return "decodes differently from cached keys and values than in one pass: it keeps other state as well"
    return None


def _tokens(model: PreTrainedModel, device: torch.device | None = None) -> Tensor:
    """[2, LENGTH] ids spread over the whole vocabulary."""
    weight: Any = model.get_input_embeddings().weight
    vocabulary = weight.shape[0]
    return (torch.arange(2 * LENGTH, device=device or model.device) * 7919 + 101).remainder(vocabulary).view(2, LENGTH)


def _logits(model: PreTrainedModel, ids_BT: Tensor, layout: Layout, positions_BT: Tensor | None = None) -> Tensor:
    body, head = body_and_head(model)
    passed = body(input_ids=ids_BT, **_keywords(layout, ids_BT.device, positions_BT))
    return softcap(head(passed.last_hidden_state), cap_of(model))


def _keywords(layout: Any, device: torch.device, positions_BT: Tensor | None = None) -> dict[str, Any]:
    place = positions(layout.lengths, device) if positions_BT is None else positions_BT
    return {"position_ids": place, "layout": layout, "use_cache": False}


def _decoded(model: PreTrainedModel, ids_BT: Tensor) -> Tensor:
    """[2, V] logits of the tokens at CUTS: one pass for the beginning of each sequence, one for both tokens."""
    cache = _Cached(CUTS)
    beginnings = torch.cat([row[:cut] for row, cut in zip(ids_BT, CUTS, strict=True)])
    _logits(model, beginnings[None], cache)
    places = torch.tensor(CUTS, device=ids_BT.device)
    return _logits(model, ids_BT.gather(1, places[:, None]), cache, places[:, None])[:, 0]


@dataclass(slots=True)
class _Cached:
    """As the embedded engine decodes: first the packed beginnings, then one token of every sequence on their cache."""

    lengths: Sequence[int]
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scale: float) -> Tensor:
        if layer not in self.kept:
            self.kept[layer] = (k_BKTD, v_BKTD)
            return Packed(tuple(self.lengths)).attend(layer, q_BHTD, k_BKTD, v_BKTD, scale)
        sizes, (keys, values) = list(self.lengths), self.kept[layer]
        outs = [
            F.scaled_dot_product_attention(
                q_BHTD[i : i + 1],
                torch.cat([k, k_BKTD[i : i + 1]], 2),
                torch.cat([v, v_BKTD[i : i + 1]], 2),
                scale=scale,
                enable_gqa=q_BHTD.shape[1] != k_BKTD.shape[1],
            )
            for i, (k, v) in enumerate(zip(keys.split(sizes, 2), values.split(sizes, 2), strict=True))
        ]
        return torch.cat(outs).transpose(1, 2)


class _Closeness:
    """Whether two sets of logits are equal up to rounding."""

    def __init__(self, model: PreTrainedModel, own_BTV: Tensor) -> None:
        self.spread = float(own_BTV.float().std()) or 1.0
        self.exact = own_BTV.dtype == torch.float32 and not getattr(model, "is_quantized", False)

    def __call__(self, one: Tensor, other: Tensor) -> bool:
        gap = (one.float() - other.float()).abs() / self.spread
        return bool(gap.max() <= TOLERANCE) if self.exact else bool(gap.mean() <= LOW_TOLERANCE)


@contextlib.contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """The model's own attention inside the block."""
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)
