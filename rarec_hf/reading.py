"""Reading: one side's hard prompt and soft prompts through the backbone, to the state that a score is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .attention_layout import Columns
from .backbone_pass import run_backbone
from .objectives import layerwise_info_nce
from .soft_prompt import SoftPrompts


@dataclass
class Reading:
    """
    What one side gives.

    Args:
        state (`torch.FloatTensor` of shape `(n, hidden)`): at the readout's last token.
        text_state (`torch.FloatTensor` of shape `(n, hidden)`, *optional*): mean over the text's tokens, read alone.
        alignment_loss (`torch.FloatTensor`, *optional*): of the soft prompts with the text.
    """

    state: Tensor
    text_state: Tensor | None
    alignment_loss: Tensor | None


@dataclass
class _Pass:
    """Rows that went through the backbone together; `values`: per cache layer the mean value of the text's tokens."""

    state: Tensor
    text_state: Tensor | None = None
    values: list[Tensor] | None = None

    @classmethod
    def joined(cls, parts: list[_Pass], rows: Tensor) -> _Pass:
        """Parts put together; row i of the whole is row `rows[i]` of the parts in a line."""

        def join(tensors):
            return None if tensors[0] is None else torch.cat(tensors)[rows]

        values = None
        if parts[0].values is not None:
            values = [join(layer) for layer in zip(*(part.values for part in parts), strict=True)]
        return cls(join([p.state for p in parts]), join([p.text_state for p in parts]), values)


class ReadingMixin:
    """`read()` of `RARecForSequentialRecommendation`."""

    def read(
        self,
        side: str,
        text_ids: Tensor,
        text_mask: Tensor,
        readout_ids: Tensor,
        id_vectors: Tensor,
        want_text: bool = False,
    ) -> Reading:
        """
        Passes one side's hard prompt and soft prompts through the backbone.

        Args:
            side (`str`): `"user"` or `"item"`.
            text_ids, text_mask (`torch.LongTensor` of shape `(batch, length)`): padded on either side.
            readout_ids (`torch.LongTensor` of shape `(readout length,)`): the prompt's last words; the state at the
                last is read.
            id_vectors (`torch.FloatTensor` of shape `(batch, n, id_dim)`): of the ID encoder.
            want_text (`bool`): also give the text's own states, for the score or the alignment loss.
        """
        if text_mask.shape != text_ids.shape:
            raise ValueError(
                f"`text_mask` must cover the text alone, shape {tuple(text_ids.shape)}, got {tuple(text_mask.shape)}; "
                "soft prompts are added to it here."
            )
        lengths = text_mask.sum(1)
        if not bool((lengths > 0).all()):
            raise ValueError(f"Row {int((lengths == 0).nonzero()[0])} of the {side} texts has no token.")
        config = self.config
        prompts = self.soft_prompts[side](id_vectors.float() / self.id_scale) if config.use_soft_prompts else None
        has_values = prompts is not None and prompts.pooled_values is not None
        aligns = self.training and config.alignment_weight > 0 and has_values
        after = config.soft_prompt_position == "after_text"
        run = self._after_text if after else self._before_text
        if after and self.spec.equal_lengths and bool((lengths != lengths[0]).any()):
            read = self._by_length(text_ids, text_mask, readout_ids, prompts, want_text, aligns)
        else:
            read = run(text_ids, text_mask, readout_ids, prompts, want_text, aligns)
        loss = None
        if aligns:
            loss = layerwise_info_nce(prompts.pooled_values, read.values, config.alignment_temperature)
        return Reading(read.state.float(), read.text_state, loss)

    def _after_text(self, ids, mask, readout_ids, prompts: SoftPrompts | None, want_text, aligns) -> _Pass:
        """The text runs alone and without gradient; readout tokens read its cache and the soft prompts."""
        read, kept = self._text(ids, mask, aligns)
        lengths = mask.sum(1)
        readout = readout_ids.to(ids.device).expand(len(ids), -1)
        after = lengths + (0 if prompts is None else len(prompts))
        columns = Columns.readouts(torch.ones_like(readout), after, lengths)
        past = [kept] if prompts is None else [kept, prompts.segment(lengths)]
        states, _ = run_backbone(self.backbone, self.spec, readout, columns, past)
        read.state = states[:, -1]
        return read

    def _before_text(self, ids, mask, readout_ids, prompts: SoftPrompts | None, want_text, aligns) -> _Pass:
        """The paper's layout: text and readout read the soft prompts before them."""
        read = self._text(ids, mask, aligns)[0] if want_text or aligns else _Pass(None)
        lengths, n_prompts = mask.sum(1), 0 if prompts is None else len(prompts)
        readout = readout_ids.to(ids.device).expand(len(ids), -1)
        columns = Columns.readouts(torch.ones_like(readout), lengths + n_prompts, lengths)
        columns = Columns.cat([Columns.text(mask, start=n_prompts), columns])
        past = [] if prompts is None else [prompts.segment(0)]
        states, _ = run_backbone(self.backbone, self.spec, torch.cat([ids, readout], 1), columns, past)
        read.state = states[:, -1]
        return read

    def _by_length(self, ids, mask, readout_ids, prompts: SoftPrompts | None, want_text, aligns) -> _Pass:
        """`_after_text` for backbones that continue text only in rows of one length."""
        lengths, parts, taken = mask.sum(1), [], []
        for length in lengths.unique():
            rows = (lengths == length).nonzero().flatten()
            real = mask[rows].bool()
            text = ids[rows][real].view(len(rows), int(length))
            mine = None if prompts is None else prompts.rows(rows)
            parts.append(self._after_text(text, torch.ones_like(text), readout_ids, mine, want_text, aligns))
            taken.append(rows)
        return _Pass.joined(parts, torch.argsort(torch.cat(taken)))

    @torch.no_grad()  # depends on nothing that is trained
    def _text(self, ids: Tensor, mask: Tensor, aligns: bool):
        """Mean states of the text alone, with its mean values if they are to be aligned with, and what it leaves."""
        states, kept = run_backbone(self.backbone, self.spec, ids, Columns.text(mask), keep=True)
        share = mask.to(states.device).float() / mask.sum(1, keepdim=True).to(states.device)
        text_state = (states.float() * share.unsqueeze(-1)).sum(1)
        values = None
        if aligns:
            real = kept.columns.real.float()
            share = (real / real.sum(1, keepdim=True)).view(len(ids), 1, -1, 1)
            values = [(v * share.to(v)).sum(2).flatten(1) for _, v in kept.layers.values()]
        return _Pass(None, text_state, values), kept


__all__ = ["Reading", "ReadingMixin"]
