"""What `test_spread_catalogue.py` runs in several processes: item representations by rows beside the whole index.

python -m torch.distributed.run --nproc_per_node 2 tests/catalogue_worker.py FOLDER [fsdp2|zero3]

With the last word the spread model's backbone is spread as well.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from tests_support import redraw

from rarec_hf import (
    ItemVectorsModel,
    RARecForSequentialRecommendation,
    RARecProcessor,
    SASRecConfig,
    SASRecModel,
    TextSASRecConfig,
    TextSASRecModel,
    catalogue_rows,
    load_backbone,
    load_tokenizer,
    resolve_backbone,
)
from rarec_hf.checkpoint_folder import REPRESENTATIONS_FILE
from rarec_hf.evaluation import TopItemsRecorder, rank_targets
from rarec_hf.joint_passes import is_sharded
from rarec_hf.processes import wait
from rarec_hf.recommendation_shards import recommend_to_shards
from rarec_hf.sharded_backbone import load_sharded_backbone
from rarec_hf.spread_catalogue import RowsElsewhereError
from rarec_hf.zero3_backbone import load_zero3_backbone

N_ITEMS, N_USERS = 75, 13  # pieces of 16 rows, the last of 11; in the last round some processes have no batch
SHARDED = {"fsdp2": load_sharded_backbone, "zero3": load_zero3_backbone}
TWINS = (5, 6, 17, 71)  # of one text and one ID vector: equal scores, in several processes


def encoder_of(kind: str):
    torch.manual_seed(1)
    sizes = {"n_items": N_ITEMS, "hidden_size": 8, "num_attention_heads": 2, "max_history": 9}
    if kind == "vectors":
        vectors = np.random.default_rng(0).normal(size=(N_ITEMS, 8)).astype(np.float32)
        vectors[list(TWINS)] = vectors[5].copy()
        users = {"user_ids": [f"u{n}" for n in range(N_USERS)], "user_vectors": vectors[:N_USERS] * 0.7}
        return ItemVectorsModel.from_vectors([f"i{n}" for n in range(N_ITEMS)], vectors, **users, similarity="cosine")
    encoder = (
        TextSASRecModel(TextSASRecConfig(**sizes, text_dim=6, text_metric=True))
        if kind == "text"
        else SASRecModel(SASRecConfig(**sizes))
    )
    redraw(encoder, 3, std=0.3)
    with torch.no_grad():
        encoder.item_embeddings.weight[list(TWINS)] = encoder.item_embeddings.weight[5].clone()
        if kind == "text":
            texts = torch.randn(N_ITEMS, 6)
            texts[list(TWINS)] = texts[5].clone()
            encoder.set_texts(texts)
    return encoder.eval()


def model_of(address: str, kind: str, backbone=None, **config) -> RARecForSequentialRecommendation:
    source = resolve_backbone(address)
    backbone = load_backbone(source, dtype=torch.float32) if backbone is None else backbone
    model = RARecForSequentialRecommendation.from_backbone(
        backbone, encoder_of(kind), backbone_address=source.address, **config
    )
    redraw(model.soft_prompts, 5, std=0.4)
    redraw(model.score_head, 7, std=0.3)
    titles = [f"film {n % 9} {'abcdefg'[n % 7] * (n % 5)}" for n in range(N_ITEMS)]
    for twin in TWINS:
        titles[twin] = titles[5]
    model.processor = RARecProcessor(load_tokenizer(source), [f"i{n}" for n in range(N_ITEMS)], titles)
    model.prepare_texts(range(N_ITEMS), progress=False)
    return model


def users() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Histories, targets and users; some users have several targets, one no history, some a twin as the target."""
    rng, histories, targets, of = np.random.default_rng(4), [], [], []
    for user in range(N_USERS):
        chosen = rng.permutation(N_ITEMS)
        history = chosen[: 0 if user == 2 else rng.integers(1, 12)]
        left = [item for item in (*TWINS, *chosen[12:]) if item not in history]
        for target in left[user % 3 : user % 3 + 1 + user % 2]:
            histories.append(history)
            targets.append(target)
            of.append(user)
    return histories, np.array(targets), np.array(of)


def check(whole, spread, process) -> None:
    """Everything that the spread one answers is what the whole one does, to the bit."""
    histories, targets, of = users()
    for batch_size, exclude_seen in ((1, True), (3, True), (5, False), (64, True)):
        options = {"users": of, "batch_size": batch_size, "exclude_seen": exclude_seen, "progress": False}
        recorders = TopItemsRecorder(whole.scorer(), 5), TopItemsRecorder(spread.scorer(), 5, process)
        expected = rank_targets(recorders[0], histories, targets, N_ITEMS, **options)
        found = rank_targets(recorders[1], histories, targets, N_ITEMS, **options, process=process)
        for name in ("greater", "ties", "candidates", "users"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert expected.ties.max() > 0
        np.testing.assert_array_equal(recorders[1].items, recorders[0].items)
    mine = [[f"i{item}" for item in history] for history in histories[process.process_index :: process.num_processes]]
    mine = mine[: 5 - process.process_index]  # another number in each
    known = [f"u{n}" for n in range(len(mine))] if whole.id_encoder.takes_users else None
    for k, exclude_seen in ((3, True), (N_ITEMS, True), (7, False)):
        answers = spread.recommend_together(mine, k, exclude_seen, 2, known, process=process)
        assert answers == (whole.recommend(mine, k, exclude_seen, 2, known))
    nobody = spread.recommend_together(mine if process.is_main_process else [], 4, process=process)
    assert nobody == (whole.recommend(mine, 4) if process.is_main_process else [])


def held(model) -> int:
    """Bytes of the item representations in this process, each storage once."""
    tensors = [t for t in (model._catalogue.items, model._catalogue.texts, model._catalogue.keys) if t is not None]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def held_by_encoder(model) -> int:
    """Bytes of the ID encoder's tables of items in this process, each storage once."""
    encoder = model.id_encoder
    tables = [encoder.item_embeddings.weight, *([encoder.texts] if hasattr(encoder, "texts") else [])]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tables}.values())


def check_encoder(whole, loaded, piece: int, process) -> None:
    """The ID encoder's tables are spread too: each process holds its share, and what needs them whole says so."""
    sizes = catalogue_rows.together((held_by_encoder(loaded), len(loaded.id_encoder.rows)), process)
    of_whole = held_by_encoder(whole)
    assert sum(size for size, _ in sizes) == of_whole and sum(n for _, n in sizes) == N_ITEMS
    assert all(abs(size - of_whole / process.num_processes) <= piece * of_whole / N_ITEMS for size, _ in sizes)
    rows, history = loaded.id_encoder.rows, torch.tensor([[3, 70, -1], [-1, -1, -1], [5, 6, 71]])
    vectors = whole.id_encoder.item_vectors()
    assert loaded.id_encoder.item_vectors(slice(rows.start, rows.stop)).equal(vectors[rows.start : rows.stop])
    if process.is_main_process:
        found = loaded.id_encoder.user_vectors_of_all(history)
        assert found.equal(whole.id_encoder.user_vectors(history))
    else:
        loaded.id_encoder.take_part()
    with pytest.raises(ValueError, match=f"within 0..{N_ITEMS - 1}, got {N_ITEMS}"):
        loaded.id_encoder.user_vectors_of_all(torch.tensor([[N_ITEMS]]))
    needed = f"holds {len(rows)} of {N_ITEMS} rows, from row {rows.start}, and cannot "
    beyond = slice(0, 1) if rows.start else slice(N_ITEMS - 1, N_ITEMS)
    for what, ask in (
        ("look items up", lambda: loaded.id_encoder(history)),
        ("give (all items' vectors|the vectors of items)", loaded.id_encoder.item_vectors),
        ("give the vectors of items", lambda: loaded.id_encoder.item_vectors(beyond)),
        ("be saved", lambda: loaded.save_pretrained("nowhere", is_main_process=process.is_main_process)),
        ("be spread again", lambda: loaded.spread_id_encoder(process)),
        ("look items up", lambda: loaded.id_encoder.add_items(torch.tensor([[0]]), torch.zeros(1, 6))),
    ):
        if not what.startswith("give") or len(rows) < N_ITEMS:
            with pytest.raises(RowsElsewhereError, match=needed + what):
                ask()


def check_files(whole, spread, folder: Path, piece: int, process) -> None:
    """A spread index is saved as the whole one is, to the byte, loaded by rows, and recommended from."""
    if process.is_main_process:
        whole.save_pretrained(folder / "whole")
    with pytest.raises(ValueError, match="expected `save_pretrained"):
        spread.save_pretrained(folder / "spread")
    spread.save_pretrained(folder / "spread", is_main_process=process.is_main_process)
    process.wait_for_everyone()
    files = [(folder / name / REPRESENTATIONS_FILE).read_bytes() for name in ("whole", "spread")]
    assert files[0] == files[1]
    loaded = RARecForSequentialRecommendation.from_pretrained(folder / "spread", by_rows_of=process)
    assert loaded.rows_here == spread.rows_here and held(loaded) == held(spread)
    assert loaded.catalogue_items(whole=False).equal(spread.catalogue_items(whole=False))
    check_encoder(whole, loaded, piece, process)
    check(whole, loaded, process)
    assert loaded.index_catalogue(7, False, process=process, by_rows=True) == 0  # keys came along
    histories, _, of = users()
    firsts = np.unique(of, return_index=True)[1]
    names, some = [f"u{of[row]}" for row in firsts], [[f"i{i}" for i in histories[row]] for row in firsts]
    options = {"users_per_shard": 3, "batch_size": 2, "progress": False}
    if process.is_main_process:
        recommend_to_shards(whole, names, some, folder / "alone", 4, **options)
    together = recommend_to_shards(loaded, names, some, folder / "together", 4, **options, process=process)
    process.wait_for_everyone()
    contents = [{p.name: p.read_bytes() for p in out.iterdir()} for out in (folder / "alone", together)]
    assert contents[0] == contents[1] and len(contents[0]) == 7
    process.wait_for_everyone()
    if process.is_main_process:
        (together / "part-00001-of-00005.parquet").unlink()
        (together / "complete.json").unlink()
    process.wait_for_everyone()
    recommend_to_shards(loaded, names, some, together, 4, **options, process=process)  # goes on
    assert {p.name: p.read_bytes() for p in together.iterdir()} == contents[0]


def check_with_a_sharded_backbone(address: str, backbone, process) -> None:
    """Item representations, the ID encoder's tables and the backbone are all in parts."""
    catalogue_rows.SMALLEST_PIECE = 16
    for kind, position in (("text", "after_text"), ("sasrec", "before_text")):
        config = {"score": "encoder_plus_llm", "soft_prompt_position": position, "text_dim": 6, "context_length": 2}
        whole, spread = (model_of(address, kind, part, **config) for part in (None, backbone))
        whole.index_catalogue(7, False)
        assert spread.index_catalogue(7, False, process=process, by_rows=True) == N_ITEMS
        rows = spread.rows_here
        assert spread.catalogue_items(whole=False).equal(whole.catalogue_items()[rows.start : rows.stop])
        spread.spread_id_encoder(process)
        assert is_sharded(spread.language_model) and 0 < len(spread.id_encoder.rows) < N_ITEMS
        check(whole, spread, process)
    wait(process)


def main(folder: Path, sharded_by: str | None = None) -> None:
    process = PartialState(cpu=True)
    address = str(folder / "backbone")
    if sharded_by:
        check_with_a_sharded_backbone(address, SHARDED[sharded_by](address, process, torch.float32), process)
        return
    for kind, piece, config in (
        ("sasrec", 16, {"score": "encoder_plus_llm"}),
        ("text", 16, {"score": "encoder_plus_llm", "soft_prompt_position": "before_text"}),
        ("vectors", 16, {"score": "encoder_plus_llm", "pooled_history": 0}),
        ("sasrec", 16, {"score": "dot_product"}),
        ("text", 256, {"score": "encoder_plus_llm"}),  # one piece: others hold nothing
        ("sasrec", 48, {"score": "trained_head"}),
    ):
        catalogue_rows.SMALLEST_PIECE = piece
        config |= {"text_dim": 6, "score_dim": 4, "context_length": 2}
        whole, spread = model_of(address, kind, **config), model_of(address, kind, **config)
        n_encoded = whole.index_catalogue(7, False)
        assert spread.index_catalogue(7, False, process=process, by_rows=True) == n_encoded == N_ITEMS
        rows = spread.rows_here
        assert spread.catalogue_items(whole=False).equal(whole.catalogue_items()[rows.start : rows.stop])
        assert spread._catalogue.keys.equal(whole._catalogue.keys[rows.start : rows.stop])
        assert spread.index_catalogue(7, False, process=process, by_rows=True) == 0  # all are known
        check(whole, spread, process)
        sizes = catalogue_rows.together((held(spread), len(rows)), process)
        assert sum(size for size, _ in sizes) == held(whole) and sum(n for _, n in sizes) == N_ITEMS
        share = held(whole) / process.num_processes
        assert all(abs(size - share) <= piece * held(whole) / N_ITEMS for size, _ in sizes)  # within a piece
        check_files(whole, spread, folder / f"{kind}_{whole.config.score}_{piece}", piece, process)
        with pytest.raises(RowsElsewhereError, match=f"holds {len(rows)} of {N_ITEMS}, from row {rows.start}"):
            spread.recommend(["i1"])
    process.wait_for_everyone()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
