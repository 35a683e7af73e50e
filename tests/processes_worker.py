"""What `test_processes.py` runs in one process and in several: every shared stage on small data, results into a file.

python -m torch.distributed.run --nproc_per_node 2 tests/processes_worker.py INPUTS RESULTS.npz [fsdp2]
"""

import sys
from pathlib import Path

import numpy as np
from accelerate import PartialState
from tests_support import walk_tables

from rarec_hf.data import build_interactions, leave_one_out
from rarec_hf.evaluation import TopItemsRecorder, rank_targets
from rarec_hf.processes import chunk, filled
from rarec_hf.training import job
from rarec_hf.training.arguments import AlignmentArguments, EncoderArguments, RARecTrainingArguments

BATCH = 8  # of the alignment, all processes together; 17 samples: the last batch has one


def losses(log: list[dict], name: str = "loss") -> np.ndarray:
    return np.array([entry[name] for entry in log if name in entry])


def main(inputs: Path, results: Path, sharding: str = "none") -> None:
    training = {
        "output_dir": str(results.with_suffix("")),
        "logging_steps": 1,
        "num_train_epochs": 2,
        "max_grad_norm": 1.0,
    }
    args = RARecTrainingArguments(**training, disable_tqdm=True)
    process, n = PartialState(), PartialState().num_processes
    args = RARecTrainingArguments(**training, disable_tqdm=True, per_device_train_batch_size=BATCH // n)
    split = leave_one_out(build_interactions(*walk_tables()), alignment_fraction=0.1, seed=42)
    found: dict[str, np.ndarray] = {}

    encoders = EncoderArguments(
        encoder_hidden_size=16,
        encoder_epochs=2,
        encoder_dropout=0.0,
        encoder_batch_size=8 // n,
        encoder_warmup_steps=1,
    )
    inner, _, log = job.prepare_encoders(split, encoders, args, results.with_suffix(".encoders"))
    found["encoder_losses"], found["encoder_ndcg"] = losses(log), losses(log, "eval_ndcg@10")

    options = {
        "backbone": str(inputs / "backbone"),
        "alignment_samples": 0,
        "backbone_dtype": "float32",
        "gain_users": 9,
        "shard_backbone": sharding,
    }
    arguments = AlignmentArguments(**options, text_layers=[1.0], encode_batch_size=4)
    model, _ = job.build_model(split, inner, arguments, "encoder_plus_llm")
    log, drawn, _ = job.align(model, split, arguments, args)
    found["losses"], found["alignment_losses"] = losses(log), losses(log, "alignment_loss")
    found["gradients"] = losses(log, "grad_norm")
    alone = AlignmentArguments(**options, text_layers=[1.0], gather_negatives=False)
    other, _ = job.build_model(split, inner, alone, "encoder_plus_llm", model.language_model)
    found["losses_of_own_negatives"] = losses(job.align(other, split, alone, args)[0])

    # What follows is of weights that are the same whatever the number of processes
    fixed, _ = job.build_model(
        split, job.SASRecModel(inner.config), arguments, "encoder_plus_llm", model.language_model
    )
    redrawn = np.random.default_rng(0)
    for parameter in [
        *fixed.score_head.parameters(),
        *fixed.id_encoder.parameters(),
        *fixed.soft_prompts.parameters(),
    ]:
        parameter.data.copy_(parameter.new_tensor(redrawn.normal(size=parameter.shape) / 4))
    items = range(split.interactions.n_items)
    found["texts"] = fixed.encode_texts(items, 4, False, process).numpy()
    fixed.prepare_texts(items, 4, False, process)
    found["encoded"] = np.array(fixed.index_catalogue(7, False, process=process))
    found["items"] = fixed.catalogue_items().numpy()
    test = job.test_users(split, 0, 0)
    histories = [test.histories[row] for row in range(len(test))]
    states, vectors = fixed.represent_users(histories, 3, process=process)
    found["users"], found["user_vectors"] = states.detach().numpy(), vectors.detach().numpy()
    for batch_size in (1, 7, 39, 64):
        recorder = TopItemsRecorder(fixed.scorer(), 5, process)
        ranks = rank_targets(
            recorder,
            histories,
            test.targets.targets,
            len(items),
            batch_size=batch_size,
            progress=False,
            process=process,
        )
        name = f"of {batch_size}"
        found[f"ranks {name}"] = np.stack([ranks.greater, ranks.ties, ranks.candidates])
        found[f"top {name}"] = recorder.items
    mine = np.zeros((5, 1), dtype=np.float32)
    mine[chunk(5, process)] = -0.0
    found["negative_zeros"] = np.signbit(filled(fixed.id_scale.new_tensor(mine), process).numpy())
    if process.is_main_process:
        np.savez(results, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
