"""`pipeline("sequential-recommendation")` answers as `model.recommend` does, from whatever it is given."""

from __future__ import annotations

import shutil

import datasets
import numpy as np
import pytest
import torch
from tests_support import rows_of
from transformers import AutoModelForCausalLM, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

from rarec_hf import ItemVectorsModel, RARecForSequentialRecommendation, SequentialRecommendationPipeline

TASK = "sequential-recommendation"
HISTORIES = [["i1", "i2"], ["i4"], [], ["i6", "i7", "i8", "i9"], ["i3"]]


@pytest.fixture
def model(trained):
    return trained()


@pytest.fixture
def pipe(model):
    return pipeline(TASK, model=model, device="cpu")


@pytest.fixture
def folder(trained, make_backbone, tmp_path):
    """A slim folder, its backbone beside it."""
    make_backbone().save_pretrained(tmp_path / "lm")
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def titled(trained, make_processor):
    """`titled(*titles)`: a pipeline over a catalogue that begins with these titles."""

    def make(*titles):
        model = trained(indexed=False)
        model.processor = make_processor([*titles, *(f"other {n}" for n in range(len(titles), 12))])
        model.index_catalogue(progress=False)
        return pipeline(TASK, model=model, device="cpu")

    return make


def said(answer) -> list[dict]:
    """A [`Recommendation`] as the pipeline gives it; scores to rounding, which depends on who shares a batch."""
    return [{"item_id": i, "title": t, "score": pytest.approx(s, abs=1e-4)} for i, t, s in answer]


def all_said(model, histories=HISTORIES, **arguments) -> list:
    return [said(answer) for answer in model.recommend(histories, **arguments)]


# inputs ----------------------------------------------------------------------------------------------------------


def test_one_history(model, pipe):
    assert type(pipe) is SequentialRecommendationPipeline
    answer = pipe(["i1", "i2"])
    assert len(answer) == 10 and [type(value) for value in answer[0].values()] == [str, str, float]
    assert answer == said(model.recommend(["i1", "i2"]))
    for same in (("i1", "i2"), np.array(["i1", "i2"]), {"history": ["i1", "i2"]}):
        assert pipe(same) == answer
    assert pipe([]) == pipe({"history": []}) == said(model.recommend([]))


def test_many_histories(model, pipe):
    assert pipe(HISTORIES) == pipe([tuple(history) for history in HISTORIES]) == all_said(model)
    assert pipe([{"history": history, "rating": 4} for history in HISTORIES]) == all_said(model)
    assert pipe([["i1"]]) == all_said(model, [["i1"]])
    assert pipe([[]]) == all_said(model, [[]])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_batches(model, pipe, batch_size):
    expected = all_said(model, k=4)
    rows = rows_of(model)
    assert pipe(HISTORIES, batch_size=batch_size, top_k=4) == expected
    assert max(rows) == min(batch_size, len(HISTORIES)) and sum(rows) == len(HISTORIES)
    whole = pipeline(TASK, model=model, device="cpu", batch_size=batch_size, top_k=4)
    assert whole(HISTORIES) == expected


def test_a_tokenizer_without_padding_token(model):
    model.processor.tokenizer.pad_token = None
    assert pipeline(TASK, model=model, device="cpu", batch_size=3)(HISTORIES) == all_said(model)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    "stream",
    [
        lambda rows: rows,
        lambda rows: rows.with_format("numpy"),
        lambda rows: rows["history"],
        lambda rows: KeyDataset(rows, "history"),
        lambda rows: rows.to_iterable_dataset(),
        lambda rows: (history for history in HISTORIES),
        lambda rows: iter(HISTORIES),
        lambda rows: ({"history": history} for history in HISTORIES),
    ],
    ids=["dataset", "numpy", "column", "key", "iterable", "generator", "iterator", "mappings"],
)
def test_streams(model, pipe, stream, batch_size):
    rows = datasets.Dataset.from_dict({"history": HISTORIES, "target": ["i0"] * len(HISTORIES)})
    answers = pipe(stream(rows), batch_size=batch_size)
    assert not isinstance(answers, list)
    assert list(answers) == all_said(model)


def test_streams_are_read_as_answers_are_asked_for(pipe):
    taken = []

    def endless():
        while True:
            taken.append("i1")
            yield ["i1"]

    answers = iter(pipe(endless(), batch_size=2))
    next(answers)
    next(answers)
    assert len(taken) <= 4
    assert len(pipe(datasets.Dataset.from_dict({"history": HISTORIES}))) == len(HISTORIES)
    assert list(pipe(KeyDataset(datasets.Dataset.from_dict({"history": []}), "history"))) == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("i1", "the text 'i1'. Put it into a list"),
        (5, "Expected a history, or many, got int"),
        ([["i1"], "i2"], "Expected a history as a list.*'i2'"),
        ({"items": ["i1"]}, r"Expected a 'history'.*\['items'\]"),
        ({"history": "i1"}, "Expected a history as a list.*'i1'"),
        (["i1", None], "got NoneType None"),
        (["i1", ["i2"]], r"got list \['i2'\]"),
    ],
)
def test_inputs_that_are_no_history(pipe, inputs, message):
    with pytest.raises(ValueError, match=message):
        pipe(inputs)


# parameters ------------------------------------------------------------------------------------------------------


def test_top_k_and_exclude_seen(model, pipe):
    for arguments in ({"top_k": 3}, {"top_k": 50}, {"top_k": 12, "exclude_seen": False}):
        expected = said(model.recommend(["i1", "i2"], arguments["top_k"], arguments.get("exclude_seen", True)))
        assert pipe(["i1", "i2"], **arguments) == expected
        assert pipeline(TASK, model=model, device="cpu", **arguments)(["i1", "i2"]) == expected
    assert len(pipe(["i1"])) == 10  # a call's parameters are its own


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True, "3"])
def test_top_k_that_is_none(model, pipe, top_k):
    for ask in (lambda: pipe(["i1"], top_k=top_k), lambda: pipeline(TASK, model=model, device="cpu", top_k=top_k)):
        with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1, got"):
            ask()


def test_parameters_there_are_not(pipe):
    with pytest.raises(TypeError, match="max_new_tokens"):
        pipe(["i1"], max_new_tokens=5)
    with pytest.raises(ValueError, match=r"`history_as` must be one of \['auto', 'ids', 'titles'\], got 'names'"):
        pipe(["i1"], history_as="names")


@pytest.fixture
def known(trained):
    """A model whose ID encoder knows two users."""
    vectors, users = np.random.default_rng(0).normal(size=(12, 4)), np.random.default_rng(1).normal(size=(2, 4))
    table = {"user_ids": ["ann", "bob"], "user_vectors": 3 * users}
    return trained(
        encoder=ItemVectorsModel.from_vectors([f"i{n}" for n in range(12)], vectors, max_history=8, **table)
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_user_ids(known, batch_size):
    pipe, users = pipeline(TASK, model=known, device="cpu"), ["bob", None, "new", "ann"]
    histories = [["i1", "i2"]] * 4
    rows = [{"history": h, "user_id": user} for h, user in zip(histories, users, strict=True)]
    answers, expected = pipe(rows, batch_size=batch_size), all_said(known, histories, user_ids=users)
    assert answers == expected
    assert list(pipe(datasets.Dataset.from_list(rows), batch_size=batch_size)) == expected
    mean, bob = (said(known.recommend(["i1", "i2"], user_ids=user)) for user in (None, "bob"))
    assert answers[1] == mean and answers[2] == mean and answers[0] == bob
    assert answers[1] != bob and answers[0] != mean and answers[3] != mean
    assert pipe({"history": ["i1", "i2"], "user_id": "bob"}) == bob


def test_user_ids_where_no_users_are_known(pipe):
    for inputs in ({"history": ["i1"], "user_id": "ann"}, [{"history": ["i1"], "user_id": "ann"}]):
        with pytest.raises(ValueError, match="has no user vectors; leave out"):
            pipe(inputs)
    assert pipe({"history": ["i1"], "user_id": None}) == pipe(["i1"])


# titles ----------------------------------------------------------------------------------------------------------


def test_titles_are_matched_to_the_catalogue(titled):
    pipe = titled("Heat", "It", "it", "Die  Hard")
    by_id = pipe(["i0", "i3"])
    for titles in (["Heat", "Die  Hard"], ["heat", " die hard "], ["i0", "DIE HARD"], ["Heat", "i3"]):
        assert pipe(titles) == by_id
    assert pipe([["Heat"], ["i3"], []]) == pipe([["i0"], ["i3"], []])
    assert pipe(["It"]) == pipe(["i1"]) and pipe(["it"]) == pipe(["i2"])  # one is written exactly so
    assert pipe(["Heat"], history_as="titles") == pipe(["i0"], history_as="ids") == pipe(["i0"])
    with pytest.raises(ValueError, match=r"1 of 1 item ids are not in the catalogue.*\['Heat'\]"):
        pipe(["Heat"], history_as="ids")
    with pytest.raises(ValueError, match="'i0' is no item id and no title"):
        pipe(["i0"], history_as="titles")


def test_titles_that_mean_none_or_several_are_named(titled):
    pipe = titled("Heat", "Heat", "The Thing", " ")
    with pytest.raises(ValueError, match="1 of 2 entries.*'heat' means 2 items.*'i0' .'Heat'.*'i1' .'Heat'"):
        pipe(["heat", "i2"])
    with pytest.raises(ValueError, match=r"2 of 3 entries.*'Thing' is no item.*\['The Thing'\].*'Alien' is no item"):
        pipe([["i2"], ["i1", "Thing", "Alien"]], batch_size=2)
    with pytest.raises(ValueError, match="' ' is no item id and no title"):
        pipe([" "])
    with pytest.raises(ValueError, match="7 of 7 entries.*and 2 more"):
        pipe([f"unknown {n}" for n in range(7)])


def test_what_is_both_an_id_and_a_title_is_not_guessed(titled):
    pipe = titled("i1", "Heat", "i2")  # `i1` and `i2` are ids too; the latter of the item so titled
    with pytest.raises(ValueError, match=r"can be read as item ids \(titled \['Heat'\]\).*of the ids \['i0'\]"):
        pipe(["i1"])
    with pytest.raises(ValueError, match="'i1' means 2 items"):
        pipe(["Heat", "i1"])
    assert pipe(["i1"], history_as="titles") == pipe(["i0"])
    assert pipe(["i1"], history_as="ids") == pipe(["Heat"])
    assert pipe(["i1", "i4"]) == pipe(["i1", "i4"], history_as="ids")  # nothing is titled i4
    assert pipe(["i2"]) == pipe(["i2"], history_as="ids")


def test_items_added_later_are_found(model, pipe):
    assert "new film" not in model.processor.titles
    with pytest.raises(ValueError, match="'new film' is no item"):
        pipe(["new film"])
    model.add_items(["i99"], ["new film"])
    model.index_catalogue(progress=False)
    assert pipe(["new film"], top_k=13) == said(model.recommend(["i99"], 13))


# models ----------------------------------------------------------------------------------------------------------


def test_a_folder(folder):
    pipe = pipeline(TASK, model=str(folder), device="cpu")
    assert type(pipe.model) is RARecForSequentialRecommendation
    model = RARecForSequentialRecommendation.from_pretrained(folder)
    assert pipe(HISTORIES, batch_size=2) == all_said(model)
    assert pipe.processor is pipe.model.processor
    assert pipeline(TASK, model=folder, device=-1)(["film bb"])  # a `Path` too


def test_a_repository_name(folder, tmp_path):
    commit, repository = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub/models--someone--films"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    where = {"local_files_only": True, "model_kwargs": {"cache_dir": str(tmp_path / "hub")}}
    pipe = pipeline(TASK, model="someone/films", device="cpu", top_k=3, **where)
    assert pipe(HISTORIES) == all_said(RARecForSequentialRecommendation.from_pretrained(folder), k=3)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_dtype_goes_to_the_backbone(folder, name):
    pipe = pipeline(TASK, model=str(folder), device="cpu", **{name: torch.bfloat16})
    own = [p for name, p in pipe.model.named_parameters() if not name.startswith("language_model.")]
    assert pipe.dtype == pipe.model.language_model.dtype == torch.bfloat16
    assert own and all(p.dtype == torch.float32 for p in own)
    expected = RARecForSequentialRecommendation.from_pretrained(folder, dtype=torch.bfloat16).recommend(["i1"])
    assert [item["item_id"] for item in pipe(["i1"])] == expected.item_ids
    assert pipeline(TASK, model=str(folder), device="cpu").dtype == torch.float32  # as it was saved


@pytest.mark.parametrize("device", [-1, "cpu", torch.device("cpu"), None])
def test_device(model, device):
    pipe = pipeline(TASK, model=model, device=device)
    assert pipe.device.type == model.device.type and (device is None or pipe.device.type == "cpu")
    assert pipe(["i1"]) == said(model.recommend(["i1"]))


def test_a_backbone_placed_by_device_map(folder):
    pipe = pipeline(TASK, model=str(folder), device_map="cpu")
    assert pipe.device == torch.device("cpu")
    assert pipe(["i1"]) == said(pipe.model.recommend(["i1"]))
    pipe.model.language_model.hf_device_map = {"": "cpu"}
    with pytest.raises(ValueError, match="placed by `device_map`.*Leave out `device`"):
        pipeline(TASK, model=pipe.model, device="cpu")
    assert pipeline(TASK, model=pipe.model)(["i1"]) == pipe(["i1"])


def test_models_that_cannot_answer(make_model, make_encoder, make_backbone, model, make_batch):
    with pytest.raises(ValueError, match="Item representations are missing.*index_catalogue"):
        pipeline(TASK, model=make_model(indexed=False), device="cpu")
    for other in (make_encoder(), make_backbone()):
        with pytest.raises(TypeError, match=f"needs a RARecForSequentialRecommendation, got {type(other).__name__}"):
            pipeline(TASK, model=other, device="cpu")
    pipe = pipeline(TASK, model=model, device="cpu")
    model.train()(**make_batch())
    with pytest.raises(ValueError, match="older than the weights.*index_catalogue"):
        pipe(["i1"])


def test_a_folder_whose_catalogue_is_not_indexed(folder):
    (folder / "item_representations.safetensors").unlink()
    with pytest.raises(ValueError, match="Item representations are missing.*index_catalogue"):
        pipeline(TASK, model=str(folder), device="cpu")


def test_a_processor_for_a_model_without(model, make_backbone):
    processor, model.processor = model.processor, None
    with pytest.raises(ValueError, match="no processor"):
        pipeline(TASK, model=model, device="cpu")
    with pytest.raises(TypeError, match=r"takes no \['tokenizer'\]"):
        pipeline(TASK, model=model, device="cpu", tokenizer=processor.tokenizer)
    with pytest.raises(TypeError, match="Expected a RARecProcessor as `processor`, got"):
        pipeline(TASK, model=model, device="cpu", processor=processor.tokenizer)
    assert pipeline(TASK, model=model, device="cpu", processor=processor)(["i1"]) == said(model.recommend(["i1"]))


def test_a_saved_pipeline_is_the_models_folder_without_code(folder, tmp_path):
    pipe = pipeline(TASK, model=str(folder), device="cpu")
    pipe.save_pretrained(tmp_path / "again")
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(p.name for p in folder.iterdir())
    assert pipeline(TASK, model=str(tmp_path / "again"), device="cpu")(HISTORIES) == pipe(HISTORIES)


def test_the_task_is_registered():
    _, task, _ = PIPELINE_REGISTRY.check_task(TASK)
    assert issubclass(SequentialRecommendationPipeline, task["impl"])  # what stands in for it
