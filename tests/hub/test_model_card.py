"""The card of a run and of a bare folder: what it says, that its code runs, that titles stay text, who may edit."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt
from tests_support import save_inputs, walk_tables
from transformers import TrainingArguments

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.backbone_wheel import WHEELS
from rarec_hf.hub import ModelCardCallback, make_model_card, write_model_card
from rarec_hf.hub.card_sections import base_model
from rarec_hf.hub.card_text import as_text, code, shared_command, without_folders
from rarec_hf.training.ranking_trainer import RankingTrainer

ROOT = Path(__file__).parent.parent.parent
HOSTILE = (
    '<script>alert(1)</script> [click](javascript:evil) ![i](http://evil.example/x.png "t")',
    "a | **bold** _it_ `code` <b>b</b> https://evil.example www.evil.example a@evil.example &lt; \\| $x$ ~~s~~",
    "<!-- --> --> </details> <img src=x onerror=evil> # head [^1] {{ 7 * 7 }} {% raw %}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run whose first items have hostile titles."""
    work = tmp_path_factory.mktemp("run")
    interactions, items = walk_tables()
    items["title"] = [*HOSTILE, *items["title"][len(HOSTILE) :]]
    save_inputs(work, (interactions, items))
    arguments = [
        *("--interactions", str(work / "events.csv"), "--items", str(work / "items.jsonl"), "--fp32"),
        *("--backbone", str(work / "backbone"), "--output_dir", str(work / "model"), "--disable_tqdm", "true"),
        *("--encoder_epochs", "2", "--encoder_hidden_size", "16", "--alignment_samples", "32", "--eval_users", "30"),
        *("--per_device_train_batch_size", "8", "--license", "cc-by-nc-4.0", "--language", "en,de"),
        *("--data_license", "none | <b>known</b>", "--logging_steps", "1"),
    ]
    before, sys.argv = sys.argv, [str(ROOT / "examples" / "train.py"), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.argv = before
    return work / "model"


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "copy"))


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def code_of(card: str) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    return block


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rendered(markdown: str):
    """All tokens of the rendered text, inline ones included, with tables."""
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        yield token
        yield from token.children or ()


# metadata ------------------------------------------------------------------------------------------------------------


def test_the_metadata_are_what_the_hub_reads(run):
    metadata = yaml.safe_load(text_of(run).split("---\n")[1])
    assert metadata["license"] == "cc-by-nc-4.0" and metadata["language"] == ["en", "de"]
    assert metadata["library_name"] == "rarec_hf" and metadata["metrics"] == ["hit_rate", "ndcg"]
    assert {"llama", "sasrec", "sequential-recommendation"} <= set(metadata["tags"])
    assert metadata.keys().isdisjoint({"pipeline_tag", "base_model", "datasets"})  # none is known of this run
    for name, kind in (("license", str), ("language", list), ("tags", list), ("metrics", list)):
        assert isinstance(metadata[name], kind)
    assert all(isinstance(tag, str) and tag for tag in metadata["tags"])
    (entry,) = metadata["model-index"]
    for result in entry["results"]:
        assert {"type", "name"} <= result["task"].keys() and {"type", "name"} <= result["dataset"].keys()
        assert all({"type", "value", "name"} <= metric.keys() for metric in result["metrics"])


def test_the_results_are_the_tables(run):
    card = ModelCard.load(run / "README.md")
    rows = {row["name"]: row["metrics"] for row in json.loads((run / "metrics.json").read_text())["methods"]}
    name, results = model_index_to_eval_results(yaml.safe_load(text_of(run).split("---\n")[1])["model-index"])
    assert name == "model" and results == card.data.eval_results
    found = {result.metric_type: result.metric_value for result in results}
    assert found == {m: round(rows["RA-Rec"][m], 4) for m in ("hit_rate@10", "hit_rate@100", "ndcg@10")}
    assert {result.dataset_name for result in results} == {"events.csv"}
    cells = {line.split(" | ")[0].removeprefix("| ") for line in section(text_of(run), "Evaluation").splitlines()}
    assert cells >= rows.keys()


def test_a_backbone_of_the_hub_is_the_base_model(trained, tmp_path):
    model = trained()
    model.config.backbone_address = "hub:some/LLM@0123abc"
    model.save_pretrained(tmp_path / "hub")
    card = make_model_card(tmp_path / "hub", repo_id="me/films")
    assert card.data.base_model == "some/LLM" and card.data.base_model_relation == "adapter"
    assert card.data.to_dict()["base_model_revision"] == "0123abc" and card.data.license is None
    assert "https://huggingface.co/some/LLM/tree/0123abc" in card.text and "**Licence: not specified.**" in card.text
    assert "from_pretrained('me/films')" in card.text
    ((repo, wheel),) = WHEELS.items()
    assert base_model(wheel.address) == (repo, None) and base_model("path:/x") == base_model(None) == (None, None)
    model.config.backbone_address = wheel.address
    told = section(make_model_card(tmp_path, model=model).text, "Base model")
    assert f"https://huggingface.co/{repo})" in told and wheel.install in told and "no revision" in told


# the text ------------------------------------------------------------------------------------------------------------


def test_the_code_runs_as_it_stands(run):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    block = code_of(text_of(run))
    done = subprocess.run([sys.executable, "-c", block], cwd=run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    model = RARecForSequentialRecommendation.from_pretrained(run)
    (history,) = (ast.literal_eval(found) for found in re.findall(r"recommend\((\[.*?\])", block))
    answer = model.recommend(history, k=5)
    assert len(history) == 3 and [line.rpartition("[")[2].rstrip("]") for line in said] == answer.item_ids


def test_every_section_is_there_and_told_by_the_run(run):
    card, metrics = text_of(run), json.loads((run / "metrics.json").read_text())
    titles = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert titles == [
        *("What it is", "How to use it", "Evaluation", "Data", "Limits", "Plots", "Training", "Base model", "Citation")
    ]
    for line in (run / "verdict.md").read_text("utf-8").splitlines():
        assert line in card
    assert metrics["rule"].replace("_", "&#95;") in section(card, "Evaluation")
    data = metrics["data"]
    assert f"`{data['data_fingerprint']}`" in section(card, "Data") and "| interactions |" in section(card, "Data")
    assert "events.csv" in section(card, "Data") and "### Dropped" in section(card, "Data")
    cold = data["items_not_in_training"]
    told = f"{cold} of 30 items never occur" if cold else "none, every item of the catalogue occurs"
    assert f"Cold items: {told}" in section(card, "Limits")
    assert f"{abs(data['popularity_bias@10']):.3f}" in section(card, "Limits")
    assert f"{data['coverage@10']:.1%}" in section(card, "Limits") and "`en`, `de`" in section(card, "Limits")
    training = section(card, "Training")
    drawn = f"samples drawn {data['samples_drawn']}"
    for told in (f"{data['minutes']} minutes", drawn, "transformers ", "`eval_users=30`", "**Seed:** 42"):
        assert told in training
    assert f"{data['trained_parameters']:,} parameters" in section(card, "What it is")
    shown = re.findall(r"!\[.*\]\((.*)\)", section(card, "Plots"))
    assert {"metrics.png", "learning_curve.png", "data.png", "selection.png"} <= set(shown)
    assert all((run / path).is_file() for path in shown)
    assert "arXiv:2402.04527" in section(card, "Citation")
    assert {row["name"] for row in metrics["methods"]} >= {"Popularity", "SASRec", "RA-Rec"}


def test_no_folder_of_this_machine_is_told(run):
    assert str(run.parent) not in text_of(run) and str(ROOT) not in text_of(run)
    assert "python train.py --interactions events.csv" in section(text_of(run), "Training")
    assert without_folders("path:/home/me/llm") == "path:llm" and without_folders("a/b.csv") == "a/b.csv"
    assert without_folders(r"C:\data\x.csv") == "x.csv" and without_folders("--items=/a/i.csv") == "--items=i.csv"
    assert shared_command("python '/my dir/x.py' --k 3") == "python x.py --k 3"


def test_hostile_titles_stay_text(run):
    shown = section(text_of(run), "How to use it")
    tokens = list(rendered(shown))
    assert [token.type for token in tokens if token.type in ("html_block", "link_open", "image", "strong_open")] == []
    assert {token.content for token in tokens if token.type == "html_inline"} <= {"<!-- -->"}
    (line,) = [t for t in tokens if t.type == "inline" and t.content.startswith("The history in the example")]
    seen = "".join(child.content for child in line.children if child.type != "html_inline")
    model = RARecForSequentialRecommendation.from_pretrained(run)
    assert seen == f"The history in the example: {' · '.join(model.processor.titles[:3])}."
    assert "alert(1)" in seen and not re.search(r"https?://evil|www\.evil|a@evil", text_of(run))
    assert "none &#124; &#60;b&#62;known&#60;/b&#62;" in section(text_of(run), "Data")


@pytest.mark.parametrize(
    "title", [*HOSTILE, "- list\n\n# head\n```\ncode", "1. x\u202egnp.exe", "| a | b |", "~~~", "x\ty"]
)
def test_any_text_is_one_cell_of_text(title):
    table = f"| a | b |\n| :--- | :--- |\n| {as_text(title)} | c |\n"
    tokens = list(rendered(table))
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    seen = "".join(child.content for child in cells[2].children if child.type != "html_inline")
    plain = " ".join(title.replace("\u202e", "").split())
    assert seen == plain
    assert {child.type for child in cells[2].children} <= {"text", "html_inline", "text_special"}
    (span,) = [token for token in rendered(f"- **A:** {code(title)}\n") if token.type == "code_inline"]
    assert span.content == plain


def test_hostile_ids_stay_strings(trained, tmp_path):
    model = trained()
    ids = ['"); import os #', "```\n```", "\u202e\\'", *(f"i{n}" for n in range(9))]
    titles = model.processor.titles
    model.processor = type(model.processor)(model.processor.tokenizer, ids, titles, max_text_tokens=64)
    card = make_model_card(tmp_path, model=model)
    call = ast.parse(code_of(card.content)).body[-1].iter
    assert ast.literal_eval(call.args[0]) == ids[:3]


# missing files, edited cards -----------------------------------------------------------------------------------------


def test_a_bare_folder_says_what_is_unknown(trained, tmp_path):
    trained().save_pretrained(tmp_path / "bare")
    card = ModelCard(text_of(write_model_card(tmp_path / "bare").parent))
    assert card.data.eval_results is None and card.data.metrics is None and card.data.base_model is None
    assert "No evaluation is kept" in card.text and "was not measured" in card.text and "not recorded" in card.text
    assert "## Plots" not in card.text and "language_model=" in section(card.text, "Base model")
    assert "index_catalogue" not in code_of(card.text)
    (tmp_path / "bare" / "item_representations.safetensors").unlink()
    assert "model.index_catalogue()" in code_of(text_of(write_model_card(tmp_path / "bare").parent))
    (tmp_path / "bare" / "items.json").unlink()
    assert "no item table" in text_of(write_model_card(tmp_path / "bare").parent)


@pytest.mark.parametrize(
    "missing",
    [
        ["metrics.json"],
        ["verdict.md"],
        ["data.md"],
        ["arguments.yaml"],
        ["environment.json"],
        ["processor_config.json"],
    ]
    + [["metrics.png", "data.png", "selection.png", "learning_curve.png", "learning_curve_id_encoder.png"]],
)
def test_each_missing_file_is_left_out(copy, missing):
    before = text_of(write_model_card(copy).parent)
    for name in missing:
        (copy / name).unlink()
    card = text_of(write_model_card(copy).parent)
    assert card != before and "None" not in re.sub(r"None of \d+ rows", "", card) and "nan" not in card.split()


def test_a_folder_without_a_model_and_broken_files_are_refused(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        write_model_card(tmp_path / "empty")
    (copy / "README.md").unlink()
    for name, content, problem in (
        ("metrics.json", "{", "cannot be read"),
        ("arguments.yaml", "- a", "got a list"),
        ("config.json", '{"model_type": "bert"}', "model of type 'bert'"),
    ):
        kept = (copy / name).read_text()
        (copy / name).write_text(content)
        with pytest.raises(ValueError, match=problem):
            write_model_card(copy)
        (copy / name).write_text(kept)
    assert not list(copy.glob("*README*")) and not list(copy.glob(".README*"))


def test_an_edited_card_is_not_written_over(copy, caplog):
    first = text_of(copy)
    write_model_card(copy, name="other")  # unedited: written anew, with the licence and language it had
    again = text_of(copy)
    assert again != first and "# other\n" in again and ModelCard(again).data.license == "cc-by-nc-4.0"
    edited = again.replace("# other\n", "# Mine\n")
    (copy / "README.md").write_text(edited, "utf-8")
    write_model_card(copy)
    assert text_of(copy) == edited and "is kept" in caplog.text
    (copy / "README.md").write_text("# Not of rarec_hf\n", "utf-8")
    write_model_card(copy)
    assert text_of(copy) == "# Not of rarec_hf\n"
    write_model_card(copy, overwrite=True, license="mit", name="model")
    assert ModelCard(text_of(copy)).data.license == "mit"


def test_the_licence_of_a_generated_card_stays(trained, tmp_path):
    trained().save_pretrained(tmp_path / "m")
    write_model_card(tmp_path / "m", license="mit", language=["en"])
    write_model_card(tmp_path / "m")
    data = ModelCard(text_of(tmp_path / "m")).data
    assert data.license == "mit" and data.language == ["en"]


@pytest.mark.parametrize("options", [{"license": "My Own"}, {"language": "English"}, {"language": ["en", "e"]}])
def test_what_the_hub_would_refuse_is_refused(run, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        make_model_card(run, **options)


# pushes --------------------------------------------------------------------------------------------------------------


def test_a_trainer_that_pushes_has_a_card(trained, tmp_path):
    model = trained()
    arguments = TrainingArguments(str(tmp_path / "out"), hub_model_id="me/films", report_to="none", use_cpu=True)
    callback = ModelCardCallback(license="mit")
    trainer = RankingTrainer(model=model, args=arguments, scorer=model.scorer, callbacks=[callback])
    trainer.callback_handler.on_push_begin(trainer.args, trainer.state, trainer.control)
    first = text_of(tmp_path / "out")
    assert "from_pretrained('me/films')" in first and ModelCard(first).data.license == "mit"
    trainer.create_model_card()
    assert text_of(tmp_path / "out") == first
    other = tmp_path / "other"
    state = SimpleNamespace(is_world_process_zero=False)
    callback.on_push_begin(SimpleNamespace(output_dir=str(other), hub_model_id=None), state, None, model=model)
    assert not other.exists()


# our own checkpoints -------------------------------------------------------------------------------------------------


def test_building_keeps_the_card_and_the_plots_it_shows(copy, tmp_path):
    keep = runpy.run_path(str(ROOT / "model_cards" / "build.py"))["keep"]
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "old.png").touch()
    card = keep(copy, "films", tmp_path / "films")
    assert "\n# films\n" in card.read_text("utf-8")
    shown = re.findall(r"!\[.*\]\((.*)\)", card.read_text("utf-8"))
    assert {path.name for path in (tmp_path / "films").iterdir()} == {"README.md", *shown} and shown


def test_the_committed_cards_are_generated_and_whole():
    cards = sorted((ROOT / "model_cards").glob("*/README.md"))
    assert [path.parent.name for path in cards] == sorted(p.stem for p in (ROOT / "model_cards").glob("*.yaml"))
    for path in cards:
        card = ModelCard.load(path)
        assert card.data.eval_results and card.data.base_model
        assert all((path.parent / shown).is_file() for shown in re.findall(r"!\[.*\]\((.*)\)", card.text))
