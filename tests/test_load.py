"""What many calls of `recommend()` leave behind: nothing. And what the load benchmark counts as held."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from benchmarks import load as benchmark

HISTORIES = [["i1", "i2", "i3"], ["i4"], [], ["i5", "i6", "i7", "i8", "i9"]]
ALLOWED = 256  # bytes a call: a list that is kept for each would be more, the interpreter's own tables are less


def bytes_a_call(model, rounds: int = 4, calls: int = 48) -> float:
    """Python's memory that a call leaves, after a warm-up; the least of some rounds, as tables grow in leaps."""

    def ask() -> int:
        for turn in range(calls):
            model.recommend(HISTORIES[turn % len(HISTORIES)], k=5)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        ask()
        used = [ask() for _ in range(rounds + 1)]
    finally:
        tracemalloc.stop()
    return min(np.diff(used)) / calls


@pytest.mark.parametrize("keeps", [False, True])
def test_calls_leave_nothing_behind(trained, keeps):
    model = trained()
    if keeps:
        model.keep_texts()
    assert bytes_a_call(model) < ALLOWED
    objects = len(gc.get_objects())
    for _ in range(2):
        for history in HISTORIES * 12:
            model.recommend(history, k=5)
    gc.collect()
    assert len(gc.get_objects()) - objects < 96  # a call that leaves one object would leave as many


def test_the_check_sees_a_leak(trained):
    model, left, recommend = trained(), [], None
    recommend = model.recommend
    model.recommend = lambda *args, **kwargs: left.append(recommend(*args, **kwargs)) or left[-1]
    assert bytes_a_call(model) > ALLOWED


def test_a_load_is_held(trained):
    model, histories = trained(), [history for history in HISTORIES if history]
    loads = [benchmark.load(model, 24, threads, 8, histories) for threads in (1, 3)]
    assert [one.calls for one in loads] == [24, 24] and not any(one.wrong for one in loads)
    assert all((one.call_seconds > 0).all() and (one.bare_seconds > 0).all() for one in loads)
    page = benchmark.markdown(loads, "python -m benchmarks.load", "tiny")
    assert "| 1 | 24 | 0 |" in page and "| 3 | 24 | 0 |" in page
    assert "24 calls in 1: 0 wrong" in benchmark.summary(loads)
    with pytest.raises(ValueError, match="got 2 threads, 1 calls"):
        benchmark.load(model, 1, 2)


def test_wrong_answers_and_growing_memory_are_not_held():
    def of(mib, wrong=0):
        return benchmark.Load(1, 100, np.ones(100), np.ones(100), [(10 * n, 50 + n * mib) for n in range(11)], wrong)

    assert of(0).held and "load held" in benchmark.summary([of(0)])
    assert of(0.01).growth == pytest.approx(10.0)  # MiB in 10,000 calls
    for one in (of(0.01), of(0, wrong=1)):
        assert not one.held and "load NOT held" in benchmark.summary([of(0), one])
    assert benchmark.Load(1, 9, np.ones(9), np.ones(9)).held  # where no memory is told, answers decide


def test_other_answers_are_counted(trained):
    model, recommend, answered = trained(), None, []
    recommend = model.recommend

    def forgetful(history, **kwargs):
        answered.append(history)
        return recommend(history if len(answered) <= 6 else ["i11"], **kwargs)

    model.recommend = forgetful
    assert benchmark.load(model, 10, 1, 1, [["i1"], ["i2"]]).wrong > 0
