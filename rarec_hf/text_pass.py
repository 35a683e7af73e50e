"""The text alone through the frozen backbone: never with gradient, and no text twice where its states are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention_layout import Columns
from .backbone_pass import run_backbone
from .model_parts import ModelParts
from .packed_texts import KeptTexts, PackedText, TextPacking, text_key
from .segments import Segment
from .weight_parts import part_here

MEANS_BYTES = 2**28  # text-only means of the alignment loss: 11,000 texts of SmolLM2-135M


@dataclass
class TextStates:
    """
    What texts leave, read alone.

    Args:
        segment (`Segment`, *optional*): keys, values and the like, by cache layer.
        mean (`torch.FloatTensor` of shape `(n_texts, n_layers * hidden)`, *optional*): mean states of the layers that
            `text_layers` names, side by side, over the tokens after the opening.
        values (`list[Tensor]`, *optional*): per cache layer the mean value `(n_texts, heads * value_dim)`.
    """

    segment: Segment | None
    mean: Tensor | None
    values: list[Tensor] | None = None

    def mean_values(self, rows: Tensor | None = None, ends: Tensor | None = None) -> list[Tensor]:
        """Per cache layer the mean value over each text's tokens, or over the first `ends` tokens of text `rows`."""
        columns = self.segment.columns
        counted = columns.real if rows is None else columns.real[rows] & (columns.order[rows] < ends.unsqueeze(1))
        share = counted.float() / counted.sum(1, keepdim=True)
        means = []
        for _, values in self.segment.layers.values():
            if rows is None:
                mean = (share.to(values).unsqueeze(1).unsqueeze(1) @ values).squeeze(2)
            else:  # of all readings at once, without a copy of the values for each
                weights = torch.zeros(
                    len(values), len(rows), values.shape[2], dtype=values.dtype, device=values.device
                )
                at = torch.arange(len(rows), device=rows.device)
                weights[rows, at] = share.to(values)
                mean = (weights.unsqueeze(1) @ values)[rows, :, at]
            means.append(mean.flatten(1))
        return means


class TextPassMixin(ModelParts):
    """Text states of `RARecForSequentialRecommendation`: from where they are kept, else from the backbone."""

    stored_texts = None  # anything with `find(key) -> PackedText | None`
    _text_means: KeptTexts | None = None
    _states_are_of: tuple | None = None

    def forget_texts_of_other_weights(self) -> None:
        """
        Drops what is remembered of texts where the backbone's weights changed or moved since it was computed.

        Raises:
            ValueError: `stored_texts` are another backbone's.
        """
        weights = ((_place(p), 0 if p.is_inference() else p._version) for p in self.backbone.parameters())
        now = (id(self.stored_texts), hash(tuple(weights)))
        if now == self._states_are_of:
            return
        fits = getattr(self.stored_texts, "fits", None)
        if fits is not None and not fits(self):
            raise ValueError(
                "`stored_texts` hold states of another backbone, or of this one with other weights or in another "
                "dtype. Make them anew for this model, or set `model.stored_texts = None`."
            )
        self._text_means, self._states_are_of = None, now

    @torch.no_grad()
    def text_states_of(self, ids: Tensor, mask: Tensor) -> TextStates:
        """States of the texts `(n_texts, length)`; those that `stored_texts` holds do not pass the backbone."""
        self.forget_texts_of_other_weights()
        if self.stored_texts is None:
            return self._run_texts(ids, mask)
        found = [self.stored_texts.find(key) for key in _keys(ids, mask)]
        packing, parts, order = TextPacking(self.spec), [], []
        known = [row for row, text in enumerate(found) if text is not None]
        if known:
            segment, mean = packing.unpack([found[row] for row in known], ids.device)
            parts.append(TextStates(segment, mean))
            order += known
        missing = [row for row, text in enumerate(found) if text is None]
        if missing:
            parts.append(self._run_texts(ids[missing], mask[missing]))
            order += missing
        if len(parts) == 1:
            return parts[0]
        back = torch.argsort(torch.tensor(order, device=ids.device))
        segment = Segment.joined([part.segment for part in parts]).rows(back)
        return TextStates(segment, torch.cat([part.mean for part in parts])[back])

    @torch.no_grad()
    def text_means_of(self, ids: Tensor, mask: Tensor, with_values: bool) -> TextStates:
        """
        Only the means of the texts, which the alignment loss compares with in the paper's layout; in training those
        of a text are computed once and remembered.
        """
        self.forget_texts_of_other_weights()
        if not with_values:
            return TextStates(None, self._only_means(ids, mask))
        if not self.training:
            states = self._run_texts(ids, mask)
            return TextStates(None, states.mean, states.mean_values())
        if self._text_means is None:
            self._text_means = KeptTexts(MEANS_BYTES)
        keys = _keys(ids, mask)
        found = [self._text_means.find(key) for key in keys]
        missing = [row for row, text in enumerate(found) if text is None]
        if missing:
            states = self._run_texts(ids[missing], mask[missing])
            for n, (row, values) in enumerate(zip(missing, torch.cat(states.mean_values(), 1), strict=True)):
                found[row] = PackedText(values.unsqueeze(0).clone(), states.mean[n].clone())
                self._text_means.put(keys[row], found[row])
        values = torch.cat([text.states for text in found]).to(ids.device)
        widths = [shape.heads * shape.value_dim for shape in self.spec.shapes.values()]
        return TextStates(None, torch.stack([t.mean for t in found]).to(ids.device), list(values.split(widths, -1)))

    def _only_means(self, ids: Tensor, mask: Tensor) -> Tensor:
        found = [None] * len(ids)
        if self.stored_texts is not None:
            found = [self.stored_texts.find(key) for key in _keys(ids, mask)]
        missing = [row for row, text in enumerate(found) if text is None]
        if len(missing) == len(ids):
            return self._run_texts(ids, mask, keep=False).mean
        computed = iter(self._run_texts(ids[missing], mask[missing], keep=False).mean if missing else ())
        return torch.stack([next(computed) if text is None else text.mean.to(ids.device) for text in found])

    def _run_texts(self, ids: Tensor, mask: Tensor, keep: bool = True) -> TextStates:
        real = mask.bool()
        used = real.any(0).nonzero().flatten()
        ids, real = ids[:, used[0] : used[-1] + 1], real[:, used[0] : used[-1] + 1]
        layers = self.config.text_layers
        states, kept = run_backbone(self.backbone, self.spec, ids, Columns.text(real), keep=keep, depths=layers)
        # The first token of a causal LM gathers attention and is huge in the middle layers: it would be all the mean
        counted = real & (real.cumsum(1) > self.config.text_opening)
        counted = torch.where(counted.any(1, keepdim=True), counted, real)
        share = (counted.float() / counted.sum(1, keepdim=True)).to(states.device)
        return TextStates(kept, (share.unsqueeze(1) @ states.float()).squeeze(1))


def _place(parameter: nn.Parameter) -> int:
    """Where in memory it lies; of a sharded one, the part of this process."""
    return part_here(parameter).data_ptr()


def _keys(ids: Tensor, mask: Tensor) -> list[bytes]:
    rows, real = ids.tolist(), mask.bool().tolist()
    return [text_key(t for t, r in zip(row, keep, strict=True) if r) for row, keep in zip(rows, real, strict=True)]


__all__ = ["TextPassMixin", "TextStates"]
