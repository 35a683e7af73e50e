"""Recommends from the shell with a trained folder or Hub repository.

python examples/recommend.py outputs/rarec --history 1 260 1196
python examples/recommend.py outputs/rarec --titles "toy story" "star wars"
"""

from __future__ import annotations

import argparse

from rarec_hf import RARecForSequentialRecommendation


def find_titles(processor, words: list[str]) -> list[str]:
    """The item id of the shortest title that holds each text, so that nobody must know ids."""
    found = []
    for text in words:
        matches = [n for n, title in enumerate(processor.titles) if text.casefold() in title.casefold()]
        if not matches:
            raise SystemExit(f"No title holds {text!r}.")
        found.append(processor.item_ids[min(matches, key=lambda n: len(processor.titles[n]))])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder or Hub repository")
    history = parser.add_mutually_exclusive_group(required=True)
    history.add_argument("--history", nargs="*", metavar="ID", help="item ids, oldest first")
    history.add_argument("--titles", nargs="+", metavar="TEXT", help="parts of titles, oldest first")
    parser.add_argument("--k", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--include_seen", action="store_true", help="also recommend items of the history")
    arguments = parser.parse_args()

    model = RARecForSequentialRecommendation.from_pretrained(arguments.model)
    processor = model.processor
    item_ids = arguments.history if arguments.titles is None else find_titles(processor, arguments.titles)
    try:
        answer = model.recommend(item_ids, k=arguments.k, exclude_seen=not arguments.include_seen)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    for index in processor.item_indices(item_ids):
        print(f"    chose  {processor.titles[index]}")
    for place, (item_id, title, score) in enumerate(answer, 1):
        print(f"{place:>3}. {score:8.3f}  {title}  [{item_id}]")


if __name__ == "__main__":
    main()
