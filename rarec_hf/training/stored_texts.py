"""
The frozen backbone's states of a data set's texts, computed once and kept in files: another epoch, another seed or
another ablation reads them instead of running the texts again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers.utils import logging

from ..backbone_fingerprint import backbone_identity
from ..catalogue_texts import length_sorted_batches
from ..modeling_rarec import RARecForSequentialRecommendation
from ..packed_texts import PackedText, TextPacking, text_key
from ..processes import dealt, speaks, wait
from ..token_texts import padded_texts
from ..whole_files import replacing

logger = logging.get_logger(__name__)

FORMAT = "1"
SHARD_BYTES = 2**26  # a run that is cut off loses no more than this
PREFIX = "texts-"
LEFTOVER_SECONDS = 3600  # a shard is written in far less


@dataclass(frozen=True)
class StoragePlan:
    """
    What storing some texts will take.

    Args:
        texts, tokens (`int`): distinct texts and all their tokens.
        n_bytes (`int`): of all of them.
        stored (`int`): how many are stored already.
        to_store (`list[list[int]]`): what will be computed and stored now, within the budget.
        over_budget (`int`): texts that will be computed on the fly, without gradient, whenever they are read.
    """

    texts: int
    tokens: int
    n_bytes: int
    stored: int
    to_store: list[list[int]]
    over_budget: int
    budget_bytes: int
    dtype: str

    def __repr__(self) -> str:
        return f"StoragePlan({self.texts} texts, {self.stored} stored, {len(self.to_store)} to store)"

    def __str__(self) -> str:
        line = (
            f"Text states: {self.texts} distinct texts, {self.tokens} tokens, {self.n_bytes / 2**30:.2f} GiB in "
            f"{self.dtype} of a budget of {self.budget_bytes / 2**30:.2f} GiB; {self.stored} are stored already, "
            f"{len(self.to_store)} will be"
        )
        return line + (f", {self.over_budget} run on the fly." if self.over_budget else ".")


class StoredTexts:
    """
    Text states of one backbone in a folder, memory-mapped; `model.stored_texts = StoredTexts(...)` makes the model
    read them.

    A text is known by its token ids, which say all of tokenizer, prompt and titles; the subfolder by backbone
    fingerprint, quantisation, dtype, direction, cache layout and format. A shard's name holds its checksum: one that
    is truncated or was changed is never read, but removed, and its texts are computed anew; one that cannot be opened
    is left alone and not used. Several runs may write into one folder at a time.

    Args:
        folder (`str` or `Path`): may serve several backbones.
        model ([`RARecForSequentialRecommendation`]): whose backbone it is.
        progress (`bool`): show a bar while checksums are compared.
    """

    def __init__(self, folder: str | Path, model: RARecForSequentialRecommendation, progress: bool = True) -> None:
        self.packing, self.progress = TextPacking(model.spec), progress
        self.dtype = model.backbone.dtype
        self.folder = Path(folder) / _identity(model)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._where: dict[bytes, tuple[_Shard, int]] = {}
        self._known: set[str] = set()
        self._refused: set[str] = set()
        self.process = PartialState()
        if self.process.is_main_process:
            self._remove_leftovers()
        self._scan(verify=True)
        self._a_text = self._bytes_a_text(model)

    def fits(self, model: RARecForSequentialRecommendation) -> bool:
        """Whether the states are those of this model's backbone as it is now."""
        return self.folder.name == _identity(model)

    @torch.no_grad()
    def _bytes_a_text(self, model: RARecForSequentialRecommendation) -> int:
        """Of a text of no length: its mean, its key and length, and what linear layers remember after it."""
        hidden_size = model.backbone.config.get_text_config(decoder=True).hidden_size
        n_bytes = 4 * len(model.config.text_layers) * hidden_size + 16 + 8
        if any(layer.linear_states for layer in model.spec.layers):
            device = model.get_input_embeddings().weight.device
            states = model._run_texts(*padded_texts([[0, 0]], device))
            (text,) = self.packing.pack(states.segment, states.mean)
            n_bytes += sum(tensor.nbytes for tensor in text.after.values())
        return n_bytes

    def __len__(self) -> int:
        return len(self._where)

    def __repr__(self) -> str:
        return f"StoredTexts({str(self.folder)!r}, {len(self)} texts, {self.n_bytes / 2**30:.2f} GiB)"

    @property
    def n_bytes(self) -> int:
        """Of the files."""
        return sum((self.folder / name).stat().st_size for name in self._known)

    def find(self, key: bytes) -> PackedText | None:
        """The stored text with this [`text_key`]; its states are read from the file when they are used."""
        place = self._where.get(key)
        return place[0].text(place[1]) if place is not None else None

    def plan(self, texts: Iterable[Sequence[int]], budget_bytes: int) -> StoragePlan:
        """What storing these texts will take; texts come first, first stored."""
        distinct = {text_key(text): list(text) for text in texts}
        a_token = self.packing.width * torch.empty((), dtype=self.dtype).element_size()
        sizes = {key: len(text) * a_token + self._a_text for key, text in distinct.items()}
        room = min(budget_bytes - self.n_bytes, int(shutil.disk_usage(self.folder).free * 0.9))
        to_store, over = [], 0
        for key, text in distinct.items():
            if key in self._where:
                continue
            room -= sizes[key]
            if room < 0:
                over += 1
            else:
                to_store.append(text)
        return StoragePlan(
            texts=len(distinct),
            tokens=sum(map(len, distinct.values())),
            n_bytes=sum(sizes.values()),
            stored=sum(key in self._where for key in distinct),
            to_store=to_store,
            over_budget=over,
            budget_bytes=budget_bytes,
            dtype=str(self.dtype).removeprefix("torch."),
        )

    @torch.no_grad()
    def store(
        self, model: RARecForSequentialRecommendation, texts: Sequence[Sequence[int]], batch_size: int = 32
    ) -> None:
        """
        Runs texts through the frozen backbone, texts of like length together, and keeps what they leave. Every process
        of `accelerate launch` takes its share. What was written when a run is cut off need not be computed again.
        """
        process, waiting, size = self.process, [], 0
        wait(process)  # one that planned late would see what another had stored, and share otherwise
        batches = length_sorted_batches([len(text) for text in texts], batch_size)
        mine, shown = dealt(batches, process), self.progress and speaks(process)
        was_reading, model.stored_texts = model.stored_texts, None
        try:
            for rows in tqdm(mine, desc="Reading texts", unit="batch", disable=not shown or not mine):
                for key, text in self._computed(model, [texts[row] for row in rows]):
                    waiting.append((key, text))
                    size += text.n_bytes
                if size >= SHARD_BYTES:
                    self._write(waiting)
                    waiting, size = [], 0
            if waiting:
                self._write(waiting)
        finally:
            model.stored_texts = was_reading
        wait(process)
        self._scan(verify=False)

    def _computed(
        self, model: RARecForSequentialRecommendation, texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[bytes, PackedText]]:
        device = model.get_input_embeddings().weight.device
        # Backbones that count positions through padding get each length alone
        lengths = sorted({len(text) for text in texts}) if model.spec.equal_lengths else [None]
        for length in lengths:
            some = [text for text in texts if length in (None, len(text))]
            states = model.text_states_of(*padded_texts(some, device))
            yield from zip(map(text_key, some), self.packing.pack(states.segment, states.mean), strict=True)

    def _write(self, texts: list[tuple[bytes, PackedText]]) -> None:
        packed = [text for _, text in texts]
        tensors = {
            "states": torch.cat([text.states for text in packed]),
            "mean": torch.stack([text.mean for text in packed]),
            "lengths": torch.tensor([len(text) for text in packed]),
            "keys": torch.tensor([list(key) for key, _ in texts], dtype=torch.uint8),
        }
        tensors |= {name: torch.stack([text.after[name] for text in packed]) for name in packed[0].after}
        unnamed = self.folder / f"unnamed-{uuid.uuid4().hex}"  # its name is its checksum, which is not known yet
        with replacing(unnamed) as path:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)
            named = self.folder / f"{PREFIX}{_checksum(path)}.safetensors"
        unnamed.replace(named)

    def _scan(self, verify: bool) -> None:
        """Takes up shards that are new in the folder; damaged ones are removed by the main process."""
        seen = self._known | self._refused
        new = sorted(path for path in self.folder.glob(f"{PREFIX}*.safetensors") if path.name not in seen)
        for path in tqdm(
            new, desc="Checking stored texts", unit="file", disable=not (verify and self.progress and len(new) > 8)
        ):
            try:
                if verify and _checksum(path) != path.stem.removeprefix(PREFIX):
                    self._remove_damaged(path)
                    continue
                shard = _Shard(path)
            except FileNotFoundError:
                continue  # another run found it damaged
            except (OSError, ValueError, KeyError, SafetensorError) as problem:
                logger.warning("%s could not be read (%s); it is left alone, its texts are run again.", path, problem)
                self._refused.add(path.name)
                continue
            self._known.add(path.name)
            for row, key in enumerate(shard.keys):
                self._where[key] = (shard, row)

    def _remove_damaged(self, path: Path) -> None:
        """Only what was read in full and is not what was written."""
        logger.warning("%s is damaged (its checksum is another); its texts will be computed anew.", path)
        self._refused.add(path.name)
        if self.process.is_main_process:
            try:
                path.unlink(missing_ok=True)
                self._refused.discard(path.name)  # the same texts make a file of the same name
            except OSError as problem:
                logger.warning("%s could not be removed: %s", path, problem)

    def _remove_leftovers(self) -> None:
        """Files of runs that were killed while they wrote."""
        for path in [*self.folder.glob("unnamed-*"), *self.folder.glob(".unnamed-*")]:
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another run was first, or the folder is read-only


class _Shard:
    def __init__(self, path: Path) -> None:
        # The file stays mapped for as long as a tensor of it lives
        with safe_open(path, framework="pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}
        lengths = self.tensors.pop("lengths").tolist()
        self.keys = [bytes(key) for key in self.tensors.pop("keys").tolist()]
        self.states, self.mean = self.tensors.pop("states"), self.tensors.pop("mean")
        ends = torch.tensor(lengths).cumsum(0).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))

    def text(self, row: int) -> PackedText:
        start, end = self.spans[row]
        return PackedText(
            self.states[start:end], self.mean[row], {name: tensor[row] for name, tensor in self.tensors.items()}
        )


def _identity(model: RARecForSequentialRecommendation) -> str:
    backbone = backbone_identity(model.language_model, model.config.backbone_fingerprint)
    config = model.config
    means = (config.text_layers, config.text_opening)
    identity = f"{FORMAT} {backbone} {model.backbone.dtype} {config.bidirectional} {means} {model.spec.layers}"
    return hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


__all__ = ["StoragePlan", "StoredTexts"]
