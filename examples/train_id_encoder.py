"""Trains an ID encoder alone and evaluates it on the full catalogue beside its baselines.

    python examples/train_id_encoder.py --output_dir outputs/comirec --encoder_type comirec
    python examples/train_id_encoder.py --interactions events.parquet --items items.csv --output_dir outputs/mine

The folder can be given to `examples/train.py --id_encoder FOLDER`, with the same data, seed and alignment fraction: it
holds the encoder that never saw the alignment users and, beside it, the one trained on all users.
"""

from __future__ import annotations

import time
from pathlib import Path

from accelerate import PartialState
from transformers.utils import logging

from rarec_hf.evaluation import EvaluationReport, plot_learning_curve
from rarec_hf.training import job, table
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.id_encoder import encoder_name
from rarec_hf.training.run_folder import run_folder, told_in_words
from rarec_hf.training.stages import Stages, run_key


@told_in_words()
def main() -> None:
    data, encoder, alignment, training = parse_arguments(description=__doc__.splitlines()[0])
    if encoder.id_encoder is not None:
        raise SystemExit("--id_encoder gives a trained one; leave it out to train one here.")
    start, final = time.perf_counter(), Path(training.output_dir)
    logging.disable_progress_bar()  # a bar for every checkpoint of a model this small; training has its own
    process = PartialState()
    with run_folder(final, alignment.overwrite_output_dir, process) as folder:
        split = job.load_data(data, training.seed)
        key = run_key(
            data, encoder, alignment, training, data=split.interactions.fingerprint(), processes=process.num_processes
        )
        stages = Stages(final, key, process, alignment.overwrite_output_dir)
        if process.is_main_process:
            job.save_data(split, folder)
        process.print(
            f"Data: {split.interactions.n_users} users, {split.interactions.n_items} items, "
            f"{len(split.interactions.item_index)} interactions\nSplit: {split.rule}",
            flush=True,
        )
        texts = None
        if encoder.encoder_type == job.TEXT_ENCODER:
            texts = job.read_item_texts(split, alignment, not training.disable_tqdm).catalogue_texts()
        known = job.gain_targets(split, alignment.gain_users, training.seed)
        inner, opponent, history = job.prepare_encoders(split, encoder, training, folder, texts, known, stages)
        of_words = job.prepare_word_opponent(split, encoder, training, folder, texts, known, stages)
        test = job.test_users(split, alignment.eval_users, training.seed)
        report = EvaluationReport(
            rule=job.ranking_rule(split, alignment.exclude_seen), reference=encoder_name(opponent)
        )
        table.rank_opponents(report, split, test, inner, opponent, alignment.exclude_seen, word_opponent=of_words)
        if not process.is_main_process:
            return
        report.data = {
            "data_fingerprint": split.interactions.fingerprint(),
            "seed": training.seed,
            "minutes": round((time.perf_counter() - start) / 60, 1),
        }
        inner.save_pretrained(folder / job.INNER_ENCODER)
        opponent.save_pretrained(folder / job.OPPONENT_ENCODER)
        if of_words is not None:
            of_words.save_pretrained(folder / job.WORD_OPPONENT)
        report.save(folder)
        plot_learning_curve(history, folder / "learning_curve_id_encoder.png")
        print("\n" + report.to_markdown())
    stages.remove()
    print(
        f"The encoders: {final}\nTry next:\n  python examples/train.py --id_encoder {final} --output_dir outputs/rarec"
    )


if __name__ == "__main__":
    main()
