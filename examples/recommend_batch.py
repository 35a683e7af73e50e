"""Writes the best items of a whole user base to sharded parquet; the same command goes on where it was cut off.

    python examples/recommend_batch.py outputs/rarec --interactions events.parquet --output_dir outputs/top10
    accelerate launch --config_file examples/accelerate_configs/processes.yaml --num_processes 4 \
        examples/recommend_batch.py outputs/rarec --interactions events.parquet --output_dir outputs/top10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from accelerate import PartialState

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.data import Interactions, load_interactions
from rarec_hf.recommendation_shards import recommend_to_shards


class KnownHistories(Sequence):
    """Each user's item ids, oldest first, without the items that the model's catalogue lacks; made when asked for."""

    def __init__(self, interactions: Interactions, known: Sequence[bool]):
        self.interactions, self.known, self.item_ids = interactions, known, interactions.items.item_ids

    def __len__(self) -> int:
        return self.interactions.n_users

    def __getitem__(self, user: int) -> list[str]:
        return [self.item_ids[item] for item in self.interactions.history(user) if self.known[item]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder or Hub repository")
    parser.add_argument("--interactions", required=True, help="as examples/train.py takes them")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--user_column", default="user_id")
    parser.add_argument("--item_column", default="item_id")
    parser.add_argument("--timestamp_column", default="timestamp")
    parser.add_argument("--k", type=int, default=10, help="how many a user (default 10)")
    parser.add_argument("--include_seen", action="store_true", help="also recommend items of the history")
    parser.add_argument("--users_per_shard", type=int, default=10_000, help="users a file (default 10000)")
    parser.add_argument("--batch_size", type=int, default=64, help="histories read at once (default 64)")
    parser.add_argument(
        "--shard_catalogue", action="store_true", help="each process holds its rows of the item representations only"
    )
    arguments = parser.parse_args()

    process = PartialState(cpu=not torch.cuda.is_available())
    columns = {name: getattr(arguments, name) for name in ("user_column", "item_column", "timestamp_column")}
    interactions = load_interactions(arguments.interactions, **columns)
    model = RARecForSequentialRecommendation.from_pretrained(
        arguments.model, by_rows_of=process if arguments.shard_catalogue else None
    )
    model.to(process.device)
    known = [model.processor.index_of(item_id) is not None for item_id in interactions.items.item_ids]
    if not all(known):
        process.print(
            f"{known.count(False)} of {len(known)} items are not in the model's catalogue; they are left out."
        )
    recommend_to_shards(
        model,
        list(interactions.user_ids),
        KnownHistories(interactions, known),
        arguments.output_dir,
        arguments.k,
        exclude_seen=not arguments.include_seen,
        users_per_shard=arguments.users_per_shard,
        batch_size=arguments.batch_size,
        process=process,
    )
    process.print(f"{interactions.n_users} users: {arguments.output_dir}")


if __name__ == "__main__":
    main()
