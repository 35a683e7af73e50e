"""Several threads that ask one model at the same time get what one thread alone gets."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from transformers import pipeline

from rarec_hf.packed_texts import KeptTexts, PackedText

N_THREADS = 8
HISTORIES = [[f"i{(start + step) % 12}" for step in range(length)] for start in (0, 4, 8) for length in range(6)]


@pytest.fixture
def switch_often():
    """Threads take turns every few microseconds, so that what can go wrong between two lines does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    yield
    sys.setswitchinterval(before)


def at_once(run, times: int = N_THREADS) -> list:
    """What `run(number)` gives in each of as many threads, all of them started together."""
    barrier = Barrier(times)

    def one(number: int):
        barrier.wait()
        return run(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def rotated(number: int) -> list[list[str]]:
    """All histories, each thread beginning elsewhere."""
    start = number * len(HISTORIES) // N_THREADS
    return HISTORIES[start:] + HISTORIES[:start]


def by_history(histories, answers) -> dict:
    return {tuple(history): answer for history, answer in zip(histories, answers, strict=True)}


@pytest.mark.parametrize("position", ["after_text", "before_text"])
def test_recommend(trained, position):
    model = trained(soft_prompt_position=position)
    alone = by_history(HISTORIES, [model.recommend(history, k=5) for history in HISTORIES])
    model.forget_texts()  # the opening that all users share is computed by whoever comes first
    answers = at_once(lambda number: [model.recommend(history, k=5) for history in rotated(number)])
    for number, answer in enumerate(answers):
        assert by_history(rotated(number), answer) == alone  # items and scores, to the bit
    assert not model.training


def test_a_model_in_training_mode_answers_as_in_evaluation_mode_and_stays_in_it(trained):
    model = trained()
    expected = [model.recommend(history, k=5) for history in HISTORIES]
    model.train()
    assert all(answer == expected for answer in at_once(lambda _: [model.recommend(h, k=5) for h in HISTORIES]))
    assert model.training and model.soft_prompts.training and not model.id_encoder.training


def test_a_generator_that_is_left_alone_ends_its_turn(trained):
    model = trained()
    model.train()
    parts = model.represent_histories([[1], [2]], batch_size=1)
    next(parts)
    assert not model.training
    list(model.represent_histories([[3]], batch_size=1))
    assert not model.training  # the first one is not done
    parts.close()
    assert model.training


def test_pipeline(trained):
    recommender = pipeline("sequential-recommendation", model=trained())
    alone = [recommender(history, top_k=3) for history in HISTORIES]
    recommender._matcher = None
    recommender.model.forget_texts()
    assert all(answers == alone for answers in at_once(lambda _: [recommender(h, top_k=3) for h in HISTORIES]))
    assert all(answers == alone for answers in at_once(lambda _: recommender(HISTORIES, top_k=3, batch_size=1)))


def test_titles_never_become_control_tokens(make_processor, switch_often):
    """Fast tokenizers keep in themselves whether control tokens are split, and every call may set it."""
    titles = [f"film {n} </s><|im_end|> {n}" for n in range(12)]
    expected = [make_processor(titles).user_text([n]).ids for n in range(12)]
    for _ in range(20):
        processor = make_processor(titles)
        processor._pieces._known.clear()
        order = [[(n + start) % 12 for n in range(12)] for start in range(N_THREADS)]

        def texts(number: int, processor=processor, order=order) -> list[list[int]]:
            found = []
            for n in order[number]:
                processor._pieces._encode("</s>wording", False)
                found.append(processor.user_text([n]).ids)
            return found

        for number, found in enumerate(at_once(texts)):
            assert found == [expected[n] for n in order[number]]


def test_kept_texts(trained, make_processor):
    model = trained()
    model.processor = make_processor(max_history_items=8, history_block=4, max_text_tokens=96)
    expected = by_history(HISTORIES, [model.recommend(history, k=5).item_ids for history in HISTORIES])
    model.keep_texts(max_gib=1e-4)  # a few dozen texts: there is always one to give up
    for number, answers in enumerate(at_once(lambda n: [model.recommend(h, k=5).item_ids for h in rotated(n)])):
        assert by_history(rotated(number), answers) == expected
    kept = model.kept_texts
    assert kept.n_bytes == sum(text.n_bytes for text in kept._texts.values()) <= kept.max_bytes


def test_kept_texts_count_their_bytes(switch_often):
    texts = [PackedText(torch.zeros(n + 1, 4), torch.zeros(0)) for n in range(16)]
    kept = KeptTexts(400)

    def work(number: int) -> None:
        for turn in range(300):
            key = bytes([(number * 7 + turn) % 16])
            kept.put(key, texts[key[0]])
            kept.find(key)
            kept.drop(bytes([turn % 16]))

    at_once(work)
    assert kept.n_bytes == sum(text.n_bytes for text in kept._texts.values()) <= kept.max_bytes
