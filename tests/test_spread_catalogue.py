"""Item representations by rows over processes: ranks, metrics and best items are those of one process, to the bit."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tests_support import ROOT, launch, save_tiny_backbone

from rarec_hf.backbone_fingerprint import InParts, weights_digest
from rarec_hf.catalogue_rows import in_turn, piece_size, pieces, rows_held, rows_of_all
from rarec_hf.rows_file import opened_in_parts, rows_of_file, write_in_parts
from rarec_hf.top_k import best_items, best_of_part, merged


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_and_best_items_are_those_of_one_process(tmp_path, processes):
    save_tiny_backbone(tmp_path / "backbone")
    launch(processes, ROOT / "tests" / "catalogue_worker.py", str(tmp_path), timeout=900)


@pytest.mark.parametrize("n_items", [1, 255, 256, 257, 3416, 16384, 16385, 1_000_003])
@pytest.mark.parametrize("processes", [1, 2, 3, 4, 64])
def test_each_row_is_held_once_in_whole_pieces(n_items, processes):
    cuts, held = {p.start for p in pieces(n_items)} | {n_items}, []
    for index in range(processes):
        rows = rows_held(n_items, SimpleNamespace(num_processes=processes, process_index=index))
        assert {rows.start, rows.stop} <= cuts
        held += [i for part in pieces(n_items, rows) for i in (part.start, part.stop)]
        assert len(rows) <= -(-n_items // processes) + 2 * piece_size(n_items)
    assert held == [i for part in pieces(n_items) for i in (part.start, part.stop)] and len(held) <= 128
    assert held[0] == 0 and held[-1] == n_items


@pytest.mark.parametrize("k", [1, 4, 30, 99])
@pytest.mark.parametrize("cuts", [(0, 31), (0, 5, 6, 31), (0, 0, 16, 31)])
def test_the_best_of_parts_are_the_best_of_all(k, cuts):
    scores = torch.randint(0, 5, (7, 31), generator=torch.Generator().manual_seed(0)).float()  # many are equal
    seen = [[row, 30 - row, 12][: row % 4] for row in range(7)]
    parts = []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        mine = [[i - start for i in items if start <= i < stop] for items in seen]
        part = scores[:, start:stop]
        values, items = best_of_part(lambda users, at, part=part: part[users, at], 7, stop - start, k, mine, 3)
        parts.append((values, items + start))
    found, expected = merged(parts, k), best_items(lambda users, at: scores[users, at], 7, 31, k, seen)
    assert found[0].equal(expected[0]) and found[1].equal(expected[1])


def test_a_best_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="user 1 of 2 are not numbers"):
        merged(
            [
                (torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)),
                (torch.tensor([[0.0], [torch.nan]]), torch.ones(2, 1)),
            ],
            1,
        )


def test_a_file_in_parts_is_the_whole_file(tmp_path):
    n = 600
    tensors = {"items": torch.randn(n, 5), "keys": torch.randint(0, 255, (n, 16), dtype=torch.uint8)}
    save_file(tensors, tmp_path / "whole", metadata={"made_by": 'a "b"'})
    parts = {
        name: InParts(tuple(t.shape), t.dtype, lambda t=t: in_turn(t, range(n), n, None))
        for name, t in tensors.items()
    }
    write_in_parts(tmp_path / "parts", parts, {"made_by": 'a "b"'})
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert weights_digest(parts) == weights_digest(tensors)
    with opened_in_parts(tmp_path / "whole") as (found, slices, metadata):
        assert weights_digest(found) == weights_digest(tensors) and metadata == {"made_by": 'a "b"'}
        assert rows_of_file(slices, "items", range(100, 300)).equal(tensors["items"][100:300])
        assert rows_of_file(slices, "others", range(3)) is None
    wanted = torch.tensor([5, 2, 5])
    assert rows_of_all(tensors["items"], range(n), wanted, None).equal(tensors["items"][wanted])
