"""Trains an LLM recommender and evaluates it on the full catalogue beside its baselines: the main job.

    accelerate launch --config_file examples/accelerate_configs/cpu.yaml examples/train.py

runs on the embedded MovieLens data. Several processes share every stage:

    accelerate launch --config_file examples/accelerate_configs/processes.yaml --num_processes 4 examples/train.py

Your own data:

    accelerate launch examples/train.py --interactions events.parquet --items items.csv --output_dir outputs/mine

`--config FILE.yaml` may give any option, `--help` lists them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import PartialState
from transformers import enable_full_determinism, set_seed
from transformers.utils import logging

from rarec_hf.data.tables import dataset_id
from rarec_hf.evaluation import EvaluationReport, TopItemsRecorder, plot_learning_curve
from rarec_hf.hub.model_card import check_card_options, write_model_card
from rarec_hf.hub.run_push import RunPush
from rarec_hf.training import job, table
from rarec_hf.training.command_line import command_words, parse_arguments
from rarec_hf.training.id_encoder import encoder_name
from rarec_hf.training.run_folder import ENVIRONMENT_FILE, PeakMemory, run_folder, told_in_words
from rarec_hf.training.run_record import run_record
from rarec_hf.training.stages import Stages, run_key


def say(text: str = "") -> None:
    if PartialState().is_main_process:
        print(text, flush=True)


def check_processes() -> None:
    if "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        raise SystemExit(
            "`accelerate launch` was told to start several processes, and without GPUs it starts one. Add "
            "--config_file examples/accelerate_configs/processes.yaml, or leave out --num_processes."
        )
    cores, threads = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        torch.get_num_threads(),
    )
    processes = PartialState().num_processes
    if threads * processes < cores and not torch.cuda.is_available():
        say(
            f"Note: {threads * processes} of {cores} cores are used. `accelerate launch` sets one thread unless "
            f"told otherwise: --num_cpu_threads_per_process {cores // processes}."
        )


def describe_data(split) -> None:
    interactions = split.interactions
    say(
        f"Data: {interactions.n_users} users, {interactions.n_items} items, "
        f"{len(interactions.item_index)} interactions"
    )
    for name, value in interactions.report.items():
        if value not in (0, "", None):
            say(f"  {name}: {value}")
    say(f"Split: {split.rule}")


def show_users(model, split, test, n_users: int = 3, k: int = 5) -> None:
    """Three users with what they chose last and what is recommended."""
    titles = split.interactions.items.titles
    first = np.unique(test.targets.users, return_index=True)[1]  # a user may have several targets
    rows = first[:: max(1, len(first) // n_users)][:n_users].tolist()
    histories = [test[row]["history"] for row in rows]
    item_ids = model.processor.item_ids
    user_ids = [split.interactions.user_ids[test.targets.users[row]] for row in rows]
    known = user_ids if model.id_encoder.takes_users else None
    answers = model.recommend([[item_ids[i] for i in history] for history in histories], k=k, user_ids=known)
    for row, user_id, history, answer in zip(rows, user_ids, histories, answers, strict=True):
        say(f"\nUser {user_id}")
        say("  chose, latest last:  " + " | ".join(titles[i] for i in history[-4:]))
        say(f"  then chose:          {titles[test[row]['target']]}")
        for place, (_, title, score) in enumerate(answer, 1):
            say(f"  {'recommended:' if place == 1 else '':<20} {place}. {title} ({score:.2f})")


@told_in_words()
def main() -> None:
    data, encoder, alignment, training = parse_arguments(description=__doc__.splitlines()[0])
    words = command_words()
    check_processes()
    process = PartialState()
    check_card_options(alignment.license, data.language)
    # All random numbers come from the one seed, whatever ran before in this process and whichever stages there are
    enable_full_determinism(training.seed) if training.full_determinism else set_seed(training.seed)
    start = time.perf_counter()
    final = Path(training.output_dir)
    push = None
    if training.push_to_hub and not alignment.dry_run:  # of checkpoints, if any are saved, and of the whole at the end
        push = RunPush(training, final.name)
        training.hub_model_id = push.repo_id
    with run_folder(final, alignment.overwrite_output_dir, process) as folder, PeakMemory() as memory:
        split = job.load_data(data, training.seed)
        fingerprint = split.interactions.fingerprint(everything=True)
        key = run_key(data, encoder, alignment, training, data=fingerprint, processes=process.num_processes)
        stages = Stages(final, key, process, alignment.overwrite_output_dir)
        if stages.folder.exists():
            say(f"Going on with a run that was cut off; finished: {', '.join(stages.finished()) or 'no stage'}")
        if process.is_main_process:
            job.save_data(split, folder)
        describe_data(split)

        if alignment.dry_run:
            say(job.dry_run(split, encoder, alignment, training))
            raise SystemExit(0)
        texts = None
        if encoder.encoder_type == job.TEXT_ENCODER and encoder.id_encoder is None:
            say("\nTexts: the LLM reads the catalogue's, for the ID encoder too")
            texts = job.read_item_texts(split, alignment, not training.disable_tqdm)
        say("\nID encoder: first without the alignment users (inside RA-Rec), then on all users (its opponent)")
        logging.disable_progress_bar()  # a bar for every checkpoint of a model this small; training has its own
        vectors = texts and texts.catalogue_texts()
        known = job.gain_targets(split, alignment.gain_users, training.seed)
        inner, opponent, encoder_log = job.prepare_encoders(split, encoder, training, folder, vectors, known, stages)
        of_words = job.prepare_word_opponent(split, encoder, training, folder, vectors, known, stages)

        scores = ["encoder_plus_llm", "dot_product"] if alignment.score == "both" else [alignment.score]
        test = job.test_users(split, alignment.eval_users, training.seed)
        reference = "ID encoder" if opponent is None else encoder_name(opponent)
        report = EvaluationReport(rule=job.ranking_rule(split, alignment.exclude_seen), reference=reference)
        table.rank_opponents(report, split, test, inner, opponent, alignment.exclude_seen, known, of_words)

        kept = None
        logging.enable_progress_bar()
        for score in scores:
            loaded = kept[0].language_model if kept else texts and texts.language_model
            model, backbone_line = job.build_model(split, inner, alignment, score, loaded)
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            say(f"\nBackbone: {backbone_line}")
            say(
                f"Alignment: {trained:,} trained parameters, score {score}, "
                f"soft prompts {alignment.soft_prompt_position}"
            )
            training.output_dir = str(stages.checkpoints(f"alignment_{score}"))
            log, drawn, selection = job.align(model, split, alignment, training, texts, folder, stages=stages)
            scorer = model.scorer()
            if kept is None:
                drawn |= {"trained_parameters": trained}
                kept = (model, log, drawn, backbone_line)
                scorer = recorder = TopItemsRecorder(scorer, process=process)
                say("\n" + selection.to_markdown())
                if process.is_main_process:
                    selection.save(folder)
                if model.processor.item_titles:
                    text_only = table.text_only_scorer(model)
                    note = "LLM's title states, untrained"
                    table.add_row(report, "Text only", test, text_only, note, exclude_seen=alignment.exclude_seen)
                without = known and table.without_readout_scorer(model, known, alignment.exclude_seen)
                if without:
                    note = "encoder and text vectors"
                    table.add_row(
                        report, table.WITHOUT_READOUT, test, without, note, exclude_seen=alignment.exclude_seen
                    )
            name = table.ROW_OF_SCORE[score]
            table.add_row(report, name, test, scorer, batch_size=64, exclude_seen=alignment.exclude_seen)

        model, log, drawn, backbone_line = kept
        logging.disable_progress_bar()
        beyond = table.beyond_accuracy(recorder, split, test)
        if not process.is_main_process:
            return
        model.save_pretrained(folder, include_backbone=alignment.include_backbone)
        inner.save_pretrained(folder / job.INNER_ENCODER)
        if opponent is not None:
            opponent.save_pretrained(folder / job.OPPONENT_ENCODER)
        if of_words is not None:
            of_words.save_pretrained(folder / job.WORD_OPPONENT)
        minutes = (time.perf_counter() - start) / 60
        report.data = {
            "data_fingerprint": split.interactions.fingerprint(),
            "seed": training.seed,
            "backbone": backbone_line,
            **drawn,
            **beyond,
            "minutes": round(minutes, 1),
        } | ({"peak_anonymous_memory_gib": round(memory.gib, 2)} if memory.gib else {})
        report.save(folder)
        if any("loss" in entry or "eval_ndcg@10" in entry for entry in log):
            plot_learning_curve(log, folder / "learning_curve.png")
        else:  # which is no reason to lose what was trained
            say(f"No learning curve: the run was over before --logging_steps {training.logging_steps:g} steps.")
        if encoder_log:
            plot_learning_curve(encoder_log, folder / "learning_curve_id_encoder.png")
        options = {**asdict(data), **asdict(encoder), **asdict(alignment), "seed": training.seed}
        options |= {
            name: getattr(training, name)
            for name in (
                *("num_train_epochs", "per_device_train_batch_size", "learning_rate", "warmup_steps"),
                *("load_best_model_at_end", "metric_for_best_model", "early_stopping_patience"),
                "recommendation_samples",
            )
        }
        options |= {name: str(getattr(training, name).value) for name in ("eval_strategy", "save_strategy")}
        (folder / "arguments.yaml").write_text(yaml.safe_dump(options, sort_keys=False), "utf-8")
        ran = run_record(words, key, backbone_line) | {
            "datasets": [i for i in map(dataset_id, (data.interactions, data.items)) if i]
        }
        (folder / ENVIRONMENT_FILE).write_text(json.dumps(ran, indent=2, ensure_ascii=False) + "\n", "utf-8")
        for score in scores:
            checkpoints = folder / "checkpoints" / (score if len(scores) > 1 else "")
            job.take_checkpoints(stages.checkpoints_folder(f"alignment_{score}"), checkpoints)

        say("\n" + report.to_markdown())
        if any(row.name == table.OURS for row in report.rows):
            told = table.verdict_of(report)
            (folder / "verdict.md").write_text(told, "utf-8")
            say(told)
        write_model_card(folder, name=final.name, repo_id=push and push.repo_id)
        show_users(model, split, test)
    stages.remove()
    say(
        f"\nDone in {minutes:.1f} minutes"
        + (f", at most {memory.gib:.1f} GiB of memory" if memory.gib else "")
        + f". The model: {final}"
    )
    if push is not None:  # what is saved already is not lost if the Hub fails now
        say(f"Pushed to {push.upload(final).repo_url}")
    example = " ".join(model.processor.item_ids[i] for i in test[0]["history"][-3:])
    say(f"Try next:\n  {Path(sys.executable).name} examples/recommend.py {final} --history {example}")


if __name__ == "__main__":
    main()
