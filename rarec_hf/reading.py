"""Reading: one side's hard prompt and soft prompts through the backbone, to the state that a score is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention_layout import Columns
from .backbone_pass import run_backbone
from .objectives import layerwise_info_nce
from .processes import PartialState, gathered_rows
from .segments import Segment
from .soft_prompt import SoftPrompts
from .text_pass import TextPassMixin, TextStates


@dataclass
class Reading:
    """
    What one side gives.

    Args:
        state (`torch.FloatTensor` of shape `(n, hidden)`): at the readout's last token.
        text_state (`torch.FloatTensor` of shape `(n, n_layers * hidden)`, *optional*): mean over the text's
            tokens, read alone.
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

        def join(tensors: Sequence[Any]) -> Any:
            return None if tensors[0] is None else torch.cat(tensors)[rows]

        values = None
        if parts[0].values is not None:
            values = [join(layer) for layer in zip(*(part.values for part in parts), strict=True)]
        return cls(join([p.state for p in parts]), join([p.text_state for p in parts]), values)


class ReadingMixin(TextPassMixin):
    """`read()` of `RARecForSequentialRecommendation`."""

    def read(
        self,
        side: str,
        text_ids: Tensor,
        text_mask: Tensor,
        readout_ids: Tensor,
        id_vectors: Tensor,
        want_text: bool = False,
        rows: Tensor | None = None,
        ends: Tensor | None = None,
        n_own: int | None = None,
    ) -> Reading:
        """
        Passes one side's hard prompt and soft prompts through the backbone.

        Args:
            side (`str`): `"user"` or `"item"`.
            text_ids, text_mask (`torch.LongTensor` of shape `(n_texts, length)`): padded on either side.
            readout_ids (`torch.LongTensor` of shape `(readout length,)`): the prompt's last words; the state at the
                last is read.
            id_vectors (`torch.FloatTensor` of shape `(batch, n, width)`): of the ID encoder.
            want_text (`bool`): also give the text's own states, for the score or the alignment loss.
            rows, ends (`torch.LongTensor` of shape `(batch,)`, *optional*): several readings of one text: which text
                each reading reads, and how many of its tokens. Without them each row reads one whole text.
            n_own (`int`, *optional*): these rows are this process's part of a batch, and so many of them count; the
                alignment loss is that of the whole batch.
        """
        if text_mask.shape != text_ids.shape:
            raise ValueError(
                f"`text_mask` must cover the text alone, shape {tuple(text_ids.shape)}, got {tuple(text_mask.shape)}; "
                "soft prompts are added to it here."
            )
        lengths = text_mask.sum(1)
        if not bool((lengths > 0).all()):
            raise ValueError(f"Row {int((lengths == 0).nonzero()[0])} of the {side} texts has no token.")
        if rows is not None:
            _check_positions(side, rows, ends, lengths, len(id_vectors))
        elif len(text_ids) != len(id_vectors):
            raise ValueError(
                f"Expected {'a history' if side == 'user' else 'an item index'} for each of {len(text_ids)} {side} "
                f"texts, got {len(id_vectors)}."
            )
        config = self.config
        prompts = self.prompts_of(side, id_vectors)
        has_values = prompts is not None and prompts.pooled_values is not None
        aligns = self.training and config.alignment_weight > 0 and has_values
        after = config.soft_prompt_position == "after_text"
        whole = rows is not None and after and not self.spec.equal_lengths and bool((ends == lengths[rows]).all())
        if rows is not None and not whole and not (after and not self.spec.every_position and not want_text):
            # One by one: each reading's own text, in full
            real = text_mask.bool()[rows]
            text_ids, text_mask = text_ids[rows], (real & (real.cumsum(1) <= ends.unsqueeze(1))).long()
            lengths, rows = ends, None
        if whole:
            read = self._after_text(text_ids, text_mask, readout_ids, prompts, want_text, aligns, rows)
        elif rows is not None:
            read = self._positions(text_ids, text_mask, readout_ids, prompts, aligns, rows, ends)
        elif after and self.spec.equal_lengths and bool((lengths != lengths[0]).any()):
            read = self._by_length(text_ids, text_mask, readout_ids, prompts, want_text, aligns)
        else:
            run = self._after_text if after else self._before_text
            read = run(text_ids, text_mask, readout_ids, prompts, want_text, aligns)
        loss = None
        if aligns:
            pairs = prompts.pooled_values, read.values
            if n_own is not None:
                pairs = [[gathered_rows(layer, n_own, PartialState()) for layer in layers] for layers in pairs]
            loss = layerwise_info_nce(*pairs, config.alignment_temperature)
        return Reading(read.state.float(), read.text_state, loss)

    def prompts_of(self, side: str, id_vectors: Tensor) -> SoftPrompts | None:
        """Soft prompts of ID vectors `(batch, n, width)`; None where the model has none on this side."""
        if side not in self.soft_prompts:
            return None
        return self.soft_prompts[side](self.id_encoder.prompt_vectors(id_vectors).float() / self.id_scale)

    def _after_text(
        self,
        ids: Tensor,
        mask: Tensor,
        readout_ids: Tensor,
        prompts: SoftPrompts | None,
        want_text: bool,
        aligns: bool,
        rows: Tensor | None = None,
    ) -> _Pass:
        """The text runs alone and without gradient; readout tokens read its cache and the soft prompts."""
        text, lengths = self.text_states_of(ids, mask), mask.sum(1)
        if rows is not None and not torch.equal(rows, torch.arange(len(ids), device=rows.device)):
            text, lengths = TextStates(text.segment.rows(rows), text.mean[rows]), lengths[rows]
        state = self._readout(text.segment, lengths, readout_ids, prompts)
        return _Pass(state, text.mean, text.mean_values() if aligns else None)

    def _readout(self, text: Segment, lengths: Tensor, readout_ids: Tensor, prompts: SoftPrompts | None) -> Tensor:
        readout = readout_ids.to(lengths.device).expand(len(lengths), -1)
        after = lengths + (0 if prompts is None else len(prompts))
        columns = Columns.readouts(torch.ones_like(readout), after, lengths)
        past = [text] if prompts is None else [text, prompts.segment(lengths)]
        return run_backbone(self.backbone, self.spec, readout, columns, past)[0][:, -1]

    def _positions(
        self,
        ids: Tensor,
        mask: Tensor,
        readout_ids: Tensor,
        prompts: SoftPrompts | None,
        aligns: bool,
        rows: Tensor,
        ends: Tensor,
    ) -> _Pass:
        """Every reading of a text from one pass: a group each of soft prompts and readout tokens."""
        text = self.text_states_of(ids, mask)
        # A table of (text, place): which reading stands there, and whether one does
        order = torch.argsort(rows, stable=True)
        counts = torch.bincount(rows, minlength=len(ids))
        place = torch.empty_like(rows)
        place[order] = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows[order]]
        n_places = int(counts.max())
        table = torch.zeros(len(ids), n_places, dtype=torch.long, device=rows.device)
        table[rows, place] = torch.arange(len(rows), device=rows.device)
        used = torch.arange(n_places, device=rows.device) < counts.unsqueeze(1)
        table_ends = ends[table]

        n_prompts = 0 if prompts is None else len(prompts)
        readout = readout_ids.to(ids.device)
        past, columns = [text.segment], []
        if prompts is not None:
            past.append(prompts.segment_of_groups(table, table_ends, used))
        for group in range(n_places):
            until, real = table_ends[:, group], used[:, group : group + 1].expand(-1, len(readout))
            columns.append(Columns.readouts(real, until + n_prompts, until, group + 1))
        tokens = readout.repeat(n_places).expand(len(ids), -1)
        states, _ = run_backbone(self.backbone, self.spec, tokens, Columns.cat(columns), past)
        last = states.unflatten(1, (n_places, len(readout)))[:, :, -1]
        return _Pass(last[rows, place], None, text.mean_values(rows, ends) if aligns else None)

    def _before_text(
        self,
        ids: Tensor,
        mask: Tensor,
        readout_ids: Tensor,
        prompts: SoftPrompts | None,
        want_text: bool,
        aligns: bool,
    ) -> _Pass:
        """The paper's layout: text and readout read the soft prompts before them."""
        text = self.text_means_of(ids, mask, aligns) if want_text or aligns else TextStates(None, None)
        lengths, n_prompts = mask.sum(1), 0 if prompts is None else len(prompts)
        readout = readout_ids.to(ids.device).expand(len(ids), -1)
        columns = Columns.readouts(torch.ones_like(readout), lengths + n_prompts, lengths)
        columns = Columns.cat([Columns.text(mask, start=n_prompts), columns])
        past = [] if prompts is None else [prompts.segment(0)]
        states, _ = run_backbone(self.backbone, self.spec, torch.cat([ids, readout], 1), columns, past)
        return _Pass(states[:, -1], text.mean, text.values)

    def _by_length(
        self,
        ids: Tensor,
        mask: Tensor,
        readout_ids: Tensor,
        prompts: SoftPrompts | None,
        want_text: bool,
        aligns: bool,
    ) -> _Pass:
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


def _check_positions(side: str, rows: Tensor, ends: Tensor | None, lengths: Tensor, batch: int) -> None:
    if ends is None or rows.shape != ends.shape or len(rows) != batch:
        got = None if ends is None else tuple(ends.shape)
        raise ValueError(
            f"Readings of the {side} texts need a text and an end each: expected `rows` and `ends` of shape "
            f"({batch},), got {tuple(rows.shape)} and {got}."
        )
    if not bool(((rows >= 0) & (rows < len(lengths))).all()):
        raise ValueError(f"`rows` must name one of the {len(lengths)} {side} texts, got {int(rows.max())}.")
    if not bool(((ends > 0) & (ends <= lengths[rows])).all()):
        bad = int(((ends <= 0) | (ends > lengths[rows])).nonzero()[0])
        raise ValueError(
            f"Reading {bad} ends after {int(ends[bad])} tokens of {side} text {int(rows[bad])}, which has "
            f"{int(lengths[rows[bad]])}."
        )


__all__ = ["Reading", "ReadingMixin"]
