"""Which texts the alignment reads, and the stage that computes their states once."""

from __future__ import annotations

from pathlib import Path

from ..data import select_samples
from ..data.selection_report import SelectionReport
from ..data.splits import Split
from ..modeling_rarec import RARecForSequentialRecommendation
from ..processing_rarec import RARecProcessor
from ..user_cache import user_cache
from .arguments import AlignmentArguments
from .samples import AlignmentDataset
from .stored_texts import StoragePlan, StoredTexts


def draw_samples(
    split: Split, arguments: AlignmentArguments, seed: int, processor: RARecProcessor
) -> tuple[AlignmentDataset, SelectionReport]:
    """The alignment samples with their texts, and the report of the draw."""
    samples, selection = select_samples(
        split,
        arguments.alignment_samples,
        seed=seed,
        denoise=arguments.denoise,
        user_diversity=arguments.user_diversity,
        item_diversity=arguments.item_diversity,
        whole_users=arguments.every_position,
        max_history=arguments.max_history_items,
    )
    return AlignmentDataset(split.interactions, samples, processor), selection


def store_texts(
    model: RARecForSequentialRecommendation, data: AlignmentDataset, arguments: AlignmentArguments, progress: bool
) -> StoragePlan:
    """
    Computes the states of texts within `--text_states_gib`: first those of users and targets, which every epoch reads,
    then those of the rest of the catalogue. The model reads them from then on; if it reads from that folder already,
    it goes on with the same object. Prints the size before anything is written.

    Raises:
        ValueError: the layout is the paper's, in which no text state can be kept.
    """
    if arguments.soft_prompt_position != "after_text":
        raise ValueError(
            "--text_states_gib keeps states of texts that stand before the soft prompts: it needs "
            "--soft_prompt_position after_text."
        )
    folder, stored = arguments.text_states_folder or user_cache("text_states"), model.stored_texts
    if not (isinstance(stored, StoredTexts) and stored.folder.parent == Path(folder) and stored.fits(model)):
        stored = StoredTexts(folder, model, progress)
    items = model.processor.item_texts([*data.items(0).tolist(), *range(len(model.processor.item_ids))])
    texts = data.texts.texts
    if model.spec.every_position:  # positions are read one by one, each its own beginning of a shared text
        texts = [texts[text][:end] for text, end in zip(data.texts.rows, data.texts.ends, strict=True)]
    plan = stored.plan([*texts, *items], round(arguments.text_states_gib * 2**30))
    if stored.process.is_main_process:
        print(f"{plan} Folder: {stored.folder}", flush=True)
    stored.store(model, plan.to_store, arguments.encode_batch_size)
    model.stored_texts = stored
    return plan


__all__ = ["draw_samples", "store_texts"]
