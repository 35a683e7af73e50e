"""What a text leaves in the backbone, packed: one row of numbers a token, without padding, one object a text."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .attention_layout import Columns
from .backbone_pass import BackboneSpec
from .segments import LinearState, Segment


@dataclass
class PackedText:
    """
    What one text leaves.

    Args:
        states: `(n_tokens, width)`: keys, values and indexer keys of all layers side by side.
        mean: `(n_layers * hidden,)`: mean over tokens, see `TextStates`.
        after: states of linear layers after the last token, by name such as `conv.3.0` (kind, cache layer, number).
    """

    states: Tensor
    mean: Tensor
    after: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.states)

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.states, self.mean, *self.after.values()))


def text_key(ids: Iterable[int]) -> bytes:
    """What a text is known by: a digest of its token ids, which say all of tokenizer, prompt and titles."""
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=16).digest()


class TextPacking:
    """Packs what a backbone of this `spec` keeps of texts, and puts packed texts together to a batch again."""

    def __init__(self, spec: BackboneSpec) -> None:
        self.parts: list[tuple[str, int, tuple[int, ...]]] = []  # kind, cache layer, shape a token
        for index, layer in enumerate(spec.layers):
            if layer.shape is not None:
                self.parts.append(("key", index, (layer.shape.heads, layer.shape.key_dim)))
                self.parts.append(("value", index, (layer.shape.heads, layer.shape.value_dim)))
            if layer.indexer_dim:
                self.parts.append(("indexer", index, (layer.indexer_dim,)))
        self.widths = [heads[0] if len(heads) == 1 else heads[0] * heads[1] for _, _, heads in self.parts]

    @property
    def width(self) -> int:
        """Numbers a token."""
        return sum(self.widths)

    def pack(self, segment: Segment, means: Tensor) -> list[PackedText]:
        """One object a row of a kept text segment; `means` `(batch, hidden)`. Memory is each row's own."""
        flat = torch.cat([self._flat(segment, kind, index) for kind, index, _ in self.parts], -1)
        texts = []
        for row, real in enumerate(segment.columns.real):
            after = {
                f"{kind}.{index}.{number}": tensor[row].clone()
                for index, state in segment.linear.items()
                for kind in ("conv", "recurrent")
                for number, tensor in getattr(state, kind).items()
            }
            texts.append(PackedText(flat[row, real], means[row].clone(), after))
        return texts

    @staticmethod
    def _flat(segment: Segment, kind: str, index: int) -> Tensor:
        if kind == "indexer":
            return segment.indexer[index]
        return segment.layers[index][kind == "value"].transpose(1, 2).flatten(2)

    def unpack(self, texts: Sequence[PackedText], device: torch.device) -> tuple[Segment, Tensor]:
        """A text segment of all rows, padded on the right, and their means `(batch, hidden)`."""
        lengths = torch.tensor([len(text) for text in texts])
        flat = texts[0].states.new_empty(len(texts), int(lengths.max()), self.width, device=device)
        for row, text in enumerate(texts):
            flat[row, : len(text)] = text.states
            flat[row, len(text) :] = 0
        segment = Segment(Columns.text((torch.arange(flat.shape[1]) < lengths.unsqueeze(1)).to(device)), {})
        found: dict[tuple[str, int], Tensor] = {}
        for (kind, index, shape), part in zip(self.parts, flat.split(self.widths, -1), strict=True):
            found[kind, index] = part if kind == "indexer" else part.unflatten(-1, shape).transpose(1, 2)
        for kind, index in found:
            if kind == "key":
                segment.layers[index] = (found["key", index], found["value", index])
            elif kind == "indexer":
                segment.indexer[index] = found[kind, index]
        for name in texts[0].after:
            kind, index, number = name.split(".")
            state = segment.linear.setdefault(int(index), LinearState())
            getattr(state, kind)[int(number)] = torch.stack([text.after[name].to(device) for text in texts])
        return segment, torch.stack([text.mean.to(device) for text in texts])


# One for all, held for moments only: a lock of its own could be neither copied nor pickled with the model
_KEEPING = threading.Lock()


class KeptTexts:
    """
    Packed texts in memory, within a budget: those not used for longest are given up first. Threads may share them.

    Args:
        max_bytes (`int`): of all texts together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._texts: OrderedDict[bytes, PackedText] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"KeptTexts({len(self)} texts, {self.n_bytes / 2**30:.2f} of {self.max_bytes / 2**30:.2f} GiB)"

    def find(self, key: bytes) -> PackedText | None:
        """The text with this [`text_key`], which counts as used now."""
        with _KEEPING:
            text = self._texts.get(key)
            if text is not None:
                self._texts.move_to_end(key)
            return text

    def put(self, key: bytes, text: PackedText) -> None:
        with _KEEPING:
            self._drop(key)
            self._texts[key] = text
            self.n_bytes += text.n_bytes
            while self.n_bytes > self.max_bytes:
                _, oldest = self._texts.popitem(last=False)
                self.n_bytes -= oldest.n_bytes

    def drop(self, key: bytes) -> None:
        with _KEEPING:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        text = self._texts.pop(key, None)
        self.n_bytes -= text.n_bytes if text is not None else 0


__all__ = ["KeptTexts", "PackedText", "TextPacking", "text_key"]
