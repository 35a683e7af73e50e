"""One process equals many: every stage in 1, 2 and 4 processes on CPUs, and the main job in 1 and 2."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import ROOT, launch

from rarec_hf.processes import chunk, collected, dealt, filled, gathered_rows


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    results = tmp_path_factory.mktemp("alone") / "results.npz"
    launch(1, ROOT / "tests" / "processes_worker.py", str(inputs), str(results), timeout=600)
    return dict(np.load(results))


@pytest.mark.parametrize(
    ("processes", "sharding"),
    [
        (2, "none"),
        (2, "fsdp2"),
        pytest.param(4, "none", marks=pytest.mark.slow),
        pytest.param(4, "fsdp2", marks=pytest.mark.slow),
    ],
)
def test_every_stage_is_the_same_in_several_processes(inputs, alone, tmp_path, processes, sharding):
    results, worker = tmp_path / "results.npz", ROOT / "tests" / "processes_worker.py"
    launch(processes, worker, str(inputs), str(results), sharding, timeout=600)
    together = dict(np.load(results))
    assert together.keys() == alone.keys()
    # Batches are dealt out whole: to the bit
    for name in ("texts", "encoded", "items", "users", "user_vectors", "negative_zeros"):
        np.testing.assert_array_equal(together[name], alone[name], err_msg=name)
    for name in alone:
        if name.startswith(("ranks", "top")):
            np.testing.assert_array_equal(together[name], alone[name], err_msg=name)
    # A global batch is cut up, and sums are taken in another order
    for name in ("encoder_losses", "encoder_ndcg", "losses", "alignment_losses", "gradients"):
        np.testing.assert_allclose(together[name], alone[name], rtol=2e-5, err_msg=name)
    assert np.isfinite(together["losses_of_own_negatives"]).all()
    assert np.abs(together["losses_of_own_negatives"] - alone["losses"]).max() > 0.01  # other negatives
    # Alone all negatives are own ones (to an ulp: a sum may depend on where in memory its terms lie)
    np.testing.assert_allclose(alone["losses_of_own_negatives"], alone["losses"], rtol=1e-6)


def test_ranks_do_not_depend_on_the_batch_size(alone):
    ranks, tops = ([alone[n] for n in alone if n.startswith(what)] for what in ("ranks", "top"))
    assert len(ranks) == len(tops) == 4 and alone["negative_zeros"].all()
    assert all((other == ranks[0]).all() for other in ranks) and all((other == tops[0]).all() for other in tops)


@pytest.mark.parametrize("encoder_type", ["sasrec", pytest.param("text_sasrec", marks=pytest.mark.slow)])
def test_the_main_job_in_two_processes(inputs, tmp_path, encoder_type):
    def run(processes: int) -> Path:
        folder = tmp_path / str(processes)
        said = launch(
            processes,
            ROOT / "examples" / "train.py",
            *("--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl"), "--fp32"),
            *("--backbone", str(inputs / "backbone"), "--output_dir", str(folder), "--disable_tqdm", "true"),
            *("--encoder_type", encoder_type, "--text_dim", "12", "--score", "both"),
            *("--encoder_epochs", "2", "--encoder_hidden_size", "16", "--encoder_dropout", "0"),
            *("--encoder_batch_size", str(64 // processes), "--per_device_train_batch_size", str(8 // processes)),
            *(
                "--eval_strategy",
                "epoch",
                "--save_strategy",
                "epoch",
                "--load_best_model_at_end",
                "--logging_steps",
                "1",
            ),
            timeout=600,
        ).stdout
        assert said.count("Data: 40 users") == said.count("Done in") == 1  # by one process
        return folder

    one, two = run(1), run(2)
    pd.testing.assert_frame_equal(pd.read_parquet(one / "ranks.parquet"), pd.read_parquet(two / "ranks.parquet"))
    tables = [json.loads((folder / "metrics.json").read_text("utf-8"))["methods"] for folder in (one, two)]
    assert [row["metrics"] for row in tables[0]] == [row["metrics"] for row in tables[1]]
    names = [{p.relative_to(f).as_posix() for p in f.rglob("*") if p.suffix != ".pth"} for f in (one, two)]
    assert names[0] == names[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_alone_there_is_nobody_to_share_with():
    rows = np.arange(6)
    assert dealt(rows, None) is rows and collected([rows], None)[0] is rows and filled(rows, None) is rows
    assert list(chunk(3, None)) == [0, 1, 2] and gathered_rows(rows, 2, None).tolist() == [0, 1]
