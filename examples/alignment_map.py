"""Draws what a trained model's items and users look like beside the LLM's and the ID encoder's own.

    python examples/alignment_map.py outputs/rarec --interactions events.parquet --items items.csv --picture map.png

Without --interactions the embedded MovieLens data are taken, as train.py does. The numbers under the picture: how far
nearest neighbours are items that the same users chose within three steps; uniformity (0: all in a narrow cone, -4: at
right angles); centred kernel alignment between the models.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from transformers import HfArgumentParser

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.training import job
from rarec_hf.training.alignment_arguments import option
from rarec_hf.training.alignment_picture import Shown, draw, numbers_table, others
from rarec_hf.training.arguments import DataArguments


@dataclass
class MapArguments:
    """The picture."""

    model: str = option(
        "outputs/rarec", "Folder that train.py left, or a Hub repository; may stand first without a name."
    )
    picture: str = option("alignment_map.png", "PNG to write.")
    method: str = option("tsne", "How widths become two.", choices=["tsne", "pca"])
    n_items: int = option(1500, "Items drawn.")
    n_users: int = option(150, "Users drawn.")
    seed: int = option(0, "Of the draw and of t-SNE.")
    text_encoder: str | None = option(None, "A text model to draw beside, such as BERT: folder or Hub id.")
    id_encoders: list[str] | None = option(None, "Folders of further ID encoders to draw beside, such as ComiRec.")


def main() -> None:
    words = sys.argv[1:]
    if words and not words[0].startswith("--"):
        words = ["--model", *words]
    data, options = HfArgumentParser((DataArguments, MapArguments)).parse_args_into_dataclasses(words)
    split = job.load_data(data, 42)
    model = RARecForSequentialRecommendation.from_pretrained(options.model)
    ids = list(split.interactions.items.item_ids)
    if ids != list(model.processor.item_ids):
        raise SystemExit(
            f"{options.model} is of another catalogue ({len(model.processor.item_ids)} items) than the data."
        )
    shown = Shown.of(split, options.seed, options.n_items, options.n_users)
    beside = others(split, shown, options.text_encoder, options.id_encoders or ())
    found = draw(model, shown, Path(options.picture), options.method, options.seed, beside)
    print("\n".join(numbers_table(found)))
    print(f"\nThe picture: {options.picture}")


if __name__ == "__main__":
    main()
