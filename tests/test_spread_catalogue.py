"""Item representations by rows over processes: ranks, metrics and best items are those of one process, to the bit."""

import pytest
from tests_support import ROOT, launch, save_tiny_backbone


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_and_best_items_are_those_of_one_process(tmp_path, processes):
    save_tiny_backbone(tmp_path / "backbone")
    launch(processes, ROOT / "tests" / "catalogue_worker.py", str(tmp_path), timeout=600)
