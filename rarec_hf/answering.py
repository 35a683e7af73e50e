"""Answering: users' texts in one pass each, without what is known already of their beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .attention_layout import TEXT, Columns
from .backbone_pass import run_backbone
from .catalogue_texts import length_sorted_batches
from .evaluation_mode import evaluation_mode
from .histories import index_lists
from .packed_texts import KeptTexts, PackedText, TextPacking, text_key
from .processes import PartialState, dealt
from .text_pass import TextPassMixin
from .token_texts import SharedTexts, UserText, padded_texts


class AnsweringMixin(TextPassMixin):
    """Users' representations of `RARecForSequentialRecommendation`."""

    kept_texts: KeptTexts | None = None
    _opening: tuple[bytes, PackedText] | None = None
    _kept_are_of: tuple | None = None

    def keep_texts(self, max_gib: float = 1.0) -> None:
        """
        Keeps what users' texts leave in the frozen backbone, so that a later call for the same user, with some more
        items at the end of the history, reads only the new titles. Needs no user ids: a text is recognised by its
        beginning. Give the processor a `history_block` above 1, or every event that pushes the oldest title out of the
        prompt changes its beginning.

        Args:
            max_gib (`float`): memory for them; texts not used for longest are given up. SmolLM2-135M keeps 2.8 MiB of
                128 tokens in bfloat16.

        Raises:
            ValueError: the text reads the soft prompts (`before_text`), or the backbone's states cannot be continued.
        """
        if problem := self._cannot_keep():
            raise ValueError(f"Texts cannot be kept: {problem}.")
        if max_gib <= 0:
            raise ValueError(f"`max_gib` must be above 0, got {max_gib}; `forget_texts()` keeps none.")
        self.kept_texts = KeptTexts(int(max_gib * 2**30))

    def forget_texts(self) -> None:
        """Keeps texts no longer, and drops those kept."""
        self.kept_texts = self._opening = None

    def _drop_stale_texts(self) -> None:
        self.forget_texts_of_other_weights()
        if self._kept_are_of != self._states_are_of:
            self._opening, self._kept_are_of = None, self._states_are_of
            if (kept := self.kept_texts) is not None:
                self.kept_texts = KeptTexts(kept.max_bytes)

    def _cannot_keep(self) -> str:
        """Why text and readout cannot share a pass that begins with kept text; empty if they can."""
        if self.config.soft_prompt_position != "after_text":
            return "their states depend on the soft prompts before them; `soft_prompt_position='after_text'` would do"
        return self.spec.every_position

    @torch.no_grad()
    def represent_histories(
        self,
        histories: Sequence[Sequence[int]],
        batch_size: int,
        users: Sequence[int] | None = None,
        process: PartialState | None = None,
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """
        Batch by batch, histories of like text length together: which histories, their representations `(n, width)` and
        the ID encoder's vectors `(n, interests, id_dim)`. Of the share of `process`, where several share the work.
        """
        processor = self._need_processor()
        with evaluation_mode(self):
            self._drop_stale_texts()
            limit, one_pass = self.config.id_encoder_config.max_history, not self._cannot_keep()
            histories = index_lists(histories)
            texts = [processor.user_text(history) for history in histories]
            for rows in dealt(length_sorted_batches([len(text.ids) for text in texts], batch_size), process):
                of_rows = None if users is None else [users[r] for r in rows]
                mine = [texts[r] for r in rows]
                known = SharedTexts([text.ids for text in mine], range(len(mine)), [len(text.ids) for text in mine])
                inputs = processor.user_inputs([histories[r] for r in rows], limit, of_rows, known)
                inputs = self._inputs_to_device(inputs)
                history, readout = inputs["history"], inputs["user_readout_ids"]
                vectors = self.id_encoder.user_vectors_of_all(history, inputs.get("users"))
                if one_pass:
                    state = self._read_users(mine, readout, vectors).float()
                else:
                    ids, mask = inputs["user_text_ids"], inputs["user_text_mask"]
                    state = self.read("user", ids, mask, readout, vectors).state
                pooled = self.pooled_text(history) if self.score_head.uses_text else None
                represented = self.score_head.user(state, pooled)
                yield rows, *(t.clone(memory_format=torch.contiguous_format) for t in (represented, vectors))

    def _read_users(self, texts: Sequence[UserText], readout_ids: Tensor, id_vectors: Tensor) -> Tensor:
        """
        Readout states of users' texts. Text and readout run together behind what is known of the texts; soft prompts
        form a group that the text does not see.
        """
        device, packing = readout_ids.device, TextPacking(self.spec)
        beginnings = [self._known_beginning(text) for text in texts]
        if all(known is beginnings[0] for known in beginnings):
            one, _ = packing.unpack(beginnings[:1], device)
            past = [one.expanded(len(texts))]
        else:
            past = [packing.unpack(beginnings, device)[0]]
        starts = torch.tensor([len(known) for known in beginnings], device=device)
        rests = [text.ids[len(known) :] for text, known in zip(texts, beginnings, strict=True)]
        ids, mask = padded_texts(rests, device)
        ends = starts + mask.sum(1)
        prompts = self.prompts_of("user", id_vectors)
        if prompts is not None:
            past.append(prompts.segment(ends, group=1))
        readout = readout_ids.expand(len(texts), -1)
        after = ends + (0 if prompts is None else len(prompts))
        columns = Columns.cat(
            [
                Columns.text(mask, start=starts, order_start=starts),
                Columns.readouts(torch.ones_like(readout), after, ends, group=1),
            ]
        )
        kept_texts = self.kept_texts
        keep = kept_texts is not None
        states, kept = run_backbone(self.backbone, self.spec, torch.cat([ids, readout], 1), columns, past, keep)
        if kept_texts is not None:
            kept.columns = replace(kept.columns, real=kept.columns.real & (kept.columns.kind == TEXT))
            for text, known, new in zip(texts, beginnings, packing.pack(kept, states[:, -1, :0]), strict=True):
                if len(new):
                    whole = PackedText(torch.cat([known.states.to(new.states.device), new.states]), new.mean)
                    kept_texts.put(text_key(text.ids), whole)
                    kept_texts.drop(text_key(text.ids[: len(known)]))  # the longer one serves its user now
        return states[:, -1]

    def _known_beginning(self, text: UserText) -> PackedText:
        """The longest beginning of the text whose states are kept or stored, at least the opening that all users
        share."""
        # Each is read from the model once: another thread may set it anew meanwhile
        known = [texts for texts in (self.kept_texts, self.stored_texts) if texts is not None]
        for end in reversed(text.ends) if known else ():
            key = text_key(text.ids[:end])
            for texts in known:
                if (found := texts.find(key)) is not None:
                    return PackedText(found.states, found.mean[:0])
        opening = text.ids[: text.ends[0]]
        key = text_key(opening)
        known_opening = self._opening
        if known_opening is None or known_opening[0] != key:
            packing, device = TextPacking(self.spec), self.get_input_embeddings().weight.device
            if opening:
                states = self._run_texts(*padded_texts([opening], device))
                (packed,) = packing.pack(states.segment, states.mean[:, :0])
            else:
                packed = PackedText(*torch.empty(2, 0, packing.width, dtype=self.backbone.dtype, device=device))
            self._opening = known_opening = (key, packed)
        return known_opening[1]


__all__ = ["AnsweringMixin"]
