"""The paper's figure on one data set: the same items in RA-Rec, the LLM alone, BERT, SASRec and ComiRec.

    python -m benchmarks.quality.alignment --dataset amazon2014-clothing --data DATA

Trains RA-Rec as the row `rarec` of `python -m benchmarks.quality` does, with the encoders and texts of its cache.
Results: `benchmarks/results/quality/DATASET.alignment.md` and the pictures beside it (t-SNE and PCA).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.quality.__main__ import RESULTS, commit
from benchmarks.quality.rarec import train_rarec
from benchmarks.quality.rows import comirec, sasrec, text_sasrec
from benchmarks.quality.sentence_encoder import minilm_folder
from benchmarks.quality.world import Settings, World
from rarec_hf.evaluation import plot_alignment
from rarec_hf.training.alignment_picture import Shown, encoder_items, numbers, numbers_table, others, seen_by
from rarec_hf.user_cache import user_cache
from rarec_hf.whole_files import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n_items", type=int, default=1500)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cache", default=str(user_cache("quality")))
    options = parser.parse_args()
    world = World(Settings(options.dataset, options.data, options.cache))
    world.final = True
    model, _, _ = train_rarec(world, text_sasrec(world, "llm", 0, all_users=False)[0], 0)
    shown = Shown.of(world.split, 0, options.n_items)
    beside = others(world.split, shown, str(minilm_folder()))
    for encoder, _ in (sasrec(world, 0), comirec(world, 0)):
        beside |= encoder_items(encoder, shown)
    found, users = seen_by(model, shown, beside)
    stem = options.results / f"{options.dataset}.alignment"
    for method in ("tsne", "pca"):
        plot_alignment(found, shown.groups, stem.with_name(f"{stem.name}.{method}.png"), method, users)
    lines = [
        f"# Alignment: {options.dataset}",
        "",
        f"Made by `python -m benchmarks.quality.alignment --dataset {options.dataset} --data DATA` at commit "
        f"{commit()}, seed 0, data fingerprint `{world.split.interactions.fingerprint()}`: {len(shown.items):,} items "
        "drawn in proportion to the root of their popularity, "
        f"{len(shown.histories)} users. neighbour_overlap@10: of ten nearest neighbours, how many are items that the "
        "same users chose within three steps, against the most it could be. uniformity: 0 where all crowd in a narrow "
        "cone, -4 at right angles. cka: likeness of two models' geometries, 1 for equal up to rotation and scale.",
        "",
        *numbers_table(numbers(found, shown)),
        "",
        f"![t-SNE]({stem.name}.tsne.png)",
        "",
        f"![PCA]({stem.name}.pca.png)",
    ]
    with replacing(stem.with_name(f"{stem.name}.md")) as path:
        path.write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
