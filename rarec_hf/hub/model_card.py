"""The model card (README.md) of a trained folder, made of what the folder holds."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.utils import logging

from ..evaluation.metrics import metric_label
from ..modeling_rarec import RARecForSequentialRecommendation
from ..whole_files import replacing
from . import card_sections as sections
from .card_text import as_text
from .run_facts import RunFacts

logger = logging.get_logger(__name__)

CARD_FILE = "README.md"
TEMPLATE = Path(__file__).with_name("model_card_template.md")
RESULTS = ("hit_rate@10", "hit_rate@100", "ndcg@10")  # of the metadata; the table in the text has more
TASK = "sequential-recommendation"  # not one of the Hub's tasks, so it is no `pipeline_tag`
_MARK = "<!-- rarec_hf card "
_LICENSE, _LANGUAGE = re.compile(r"[a-z0-9][a-z0-9.+-]*"), re.compile(r"[a-z]{2,3}|multilingual|code")


def write_model_card(
    folder: str | os.PathLike,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    data_license: str | None = None,
    model: RARecForSequentialRecommendation | None = None,
    overwrite: bool = False,
) -> Path:
    """
    Writes `README.md` into the folder of a run, or any that `save_pretrained` left, whole or not at all. A card that
    is there and was edited since it was generated, or was never generated, stays as it is, with a warning.

    Args:
        folder (`str`): the folder; only `config.json` must be there, everything else is used if it is.
        name (`str`, *optional*): the card's title; the repository's or the folder's name otherwise.
        repo_id (`str`, *optional*): the repository it will be loaded from; the example code loads the working
            directory otherwise.
        license (`str`, *optional*): of the model, as the Hub names it (`"apache-2.0"`); otherwise what a generated
            card in the folder says, then the run's `--license`, then unspecified, with a note to fill it in.
        language (`str` or `list[str]`, *optional*): of the titles, in two or three letters; otherwise likewise.
        data_license (`str`, *optional*): of the data, in words; the run's `--data_license` otherwise.
        model ([`RARecForSequentialRecommendation`], *optional*): describe this one instead of the folder's, because it
            is not saved there yet.
        overwrite (`bool`): replace an edited card, too.

    Returns:
        the card's path.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: a licence or language the Hub would refuse, or a file of the run that cannot be read.

    Example:
        ```python
        >>> write_model_card("outputs/rarec", repo_id="me/films", license="apache-2.0")
        PosixPath('outputs/rarec/README.md')
        ```
    """
    file = Path(folder) / CARD_FILE
    if file.is_file():
        old = file.read_text("utf-8")
        if not overwrite and not is_as_generated(old):
            logger.warning(
                f"{file} is kept: rarec_hf did not write it, or it was edited since. `overwrite=True` replaces it."
            )
            return file
        if is_as_generated(old):
            metadata = ModelCard(old).data
            license, language = license or metadata.license, language or metadata.language
    card = make_model_card(
        folder, name=name, repo_id=repo_id, license=license, language=language, data_license=data_license, model=model
    )
    with replacing(file) as temporary:
        card.save(temporary)
    return file


def make_model_card(
    folder: str | os.PathLike,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    data_license: str | None = None,
    model: RARecForSequentialRecommendation | None = None,
) -> ModelCard:
    """The card that [`write_model_card`] writes, with its arguments and errors; nothing is written."""
    folder = Path(folder)
    facts = RunFacts.of(folder, model)
    license = license or facts.arguments.get("license")
    languages = check_card_options(license, language or facts.arguments.get("language"))
    data_license = data_license or facts.arguments.get("data_license")
    name = name or (repo_id or folder.resolve().name).rpartition("/")[2]
    code, code_titles = sections.example(facts, repo_id or ".")
    code_note = "Needs `rarec_hf`." + ("" if repo_id else " Run it in this model's folder, or put its path for `.`.")
    eval_users = facts.arguments.get("eval_users")
    users_note = f"At most {eval_users:,} test users, drawn with the seed, were evaluated." if eval_users else None
    card = ModelCard.from_template(
        _metadata(facts, name, license, languages),
        template_path=str(TEMPLATE),
        name=as_text(name),
        summary=_summary(facts),
        license_note=None if license else _license_note(),
        parts=sections.parts(facts),
        code=code,
        code_note=code_note,
        code_titles=code_titles,
        metrics=sections.evaluation(facts),
        users_note=users_note,
        verdict=facts.verdict,
        data_parts=sections.data_parts(facts, data_license),
        data_report=sections.data_report(facts.data_report),
        limits=sections.limits(facts, languages),
        pictures=facts.pictures,
        training=sections.training(facts),
        base_model_text=sections.base_model_text(facts),
    )
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip() + "\n"
    card.text += f"\n{_MARK}{_digest(str(card))}: edit freely, an edited card is not written over -->\n"
    return card


def is_as_generated(card: str) -> bool:
    """Whether the text of a card is what [`write_model_card`] wrote, and nobody changed it."""
    above, mark, rest = card.rpartition(f"\n{_MARK}")
    return bool(mark) and rest.partition(":")[0] == _digest(above)


def check_card_options(license: str | None, language: str | Sequence[str] | None) -> list[str]:
    """
    The languages as a list; for the start of a run, so that a slip does not end it after hours.

    Raises:
        ValueError: a licence or language that is none of the Hub's identifiers by its form.
    """
    languages = language.split(",") if isinstance(language, str) else list(language or ())
    languages = [one.strip() for one in languages if one.strip()]
    if license is not None and not _LICENSE.fullmatch(license):
        raise ValueError(
            f"`license` must be an identifier of the Hub such as 'apache-2.0' or 'cc-by-nc-4.0', or 'other'; got "
            f"{license!r}. See https://huggingface.co/docs/hub/repositories-licenses."
        )
    if wrong := [one for one in languages if not _LANGUAGE.fullmatch(one)]:
        raise ValueError(f"`language` must be codes of two or three letters such as 'en', got {wrong[0]!r}.")
    return languages


def _metadata(facts: RunFacts, name: str, license: str | None, languages: list[str]) -> ModelCardData:
    config = facts.config
    repo, revision = sections.base_model(config.backbone_address)
    results = _results(facts)
    extra = {"base_model_revision": revision} if revision else {}
    if repo and not facts.has_backbone:
        extra["base_model_relation"] = "adapter"
    return ModelCardData(
        language=languages or None,
        license=license,
        library_name="rarec_hf",
        tags=[
            *("recommender-systems", TASK, "rarec", "soft-prompts"),
            config.text_config.model_type,
            sections.encoder_name(facts).lower(),
            "arxiv:2402.04527",
        ],
        base_model=repo,
        **extra,
        datasets=facts.environment.get("datasets") or None,
        metrics=list(dict.fromkeys(result.metric_type.partition("@")[0] for result in results)) or None,
        eval_results=results or None,
        model_name=name if results else None,
    )


def _results(facts: RunFacts) -> list[EvalResult]:
    """The values of the table's row that is this model."""
    if facts.ours is None:
        return []
    values, run = facts.ours["metrics"], facts.metrics
    datasets = facts.environment.get("datasets") or []
    ranked = {"users": run["users"], "candidates_mean": round(run["candidates"]["mean"], 1)}
    if "data_fingerprint" in facts.run_data:
        ranked["fingerprint"] = facts.run_data["data_fingerprint"]
    return [
        EvalResult(
            task_type=TASK,
            task_name="Sequential recommendation, full catalogue",
            dataset_type=datasets[0] if datasets else "unknown",
            dataset_name=facts.data_name or (datasets[0] if datasets else "unknown"),
            dataset_split="test",
            dataset_args=ranked,
            metric_type=metric,
            metric_name=metric_label(metric),
            metric_value=round(values[metric], 4),
        )
        for metric in RESULTS
        if metric in values
    ]


def _summary(facts: RunFacts) -> str:
    way = (
        f"the vectors of a {sections.encoder_name(facts)} go into each of its layers as soft prompts"
        if facts.config.use_soft_prompts
        else f"a {sections.encoder_name(facts)} stands beside it"
    )
    return f"Recommends the next items for a history of items: a frozen language model reads their titles, {way}."


def _license_note() -> str:
    return (
        "**Licence: not specified.** Before publishing, put `license:` into the metadata above (`license=` of "
        "`write_model_card`, `--license` of a run), with a view to those of the base model and of the data."
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


__all__ = ["CARD_FILE", "check_card_options", "is_as_generated", "make_model_card", "write_model_card"]
