"""Ranks, retrieval and search against plain loops: ties are misses, bad input is one sentence."""

import numpy as np
import pytest
from fake_clip import FakeClip, pictures_of, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.evaluation import ranks, retrieval, search, top_k
from miniclip.evaluation.retrieval import TIE


def test_top_k_keeps_the_order_of_equals():
    index, score = top_k(np.array([[1.0, 3, 3, 2], [0, 0, 0, 0]]), 3)
    assert index.tolist() == [[1, 2, 3], [0, 1, 2]] and score.tolist() == [[3, 3, 2], [0, 0, 0]]
    assert top_k(np.arange(300.0) // 100, 250)[0].tolist() == [*range(200, 300), *range(100, 200), *range(50)]
    assert top_k(np.array([5.0, 6]), 9)[0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="top_k: k is 0; it must be an integer of at least 1"):
        top_k(np.zeros((1, 2)), 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.int64, np.float32])
def test_top_k_wraps_no_integer_around(dtype):
    least = np.iinfo(dtype).min if np.dtype(dtype).kind in "iu" else 0  # its negative is itself
    index, score = top_k(np.array([3, least, 7, 7, 1], dtype), 4)
    assert index.tolist() == [2, 3, 0, 4] and score.tolist() == [7, 7, 3, 1] and score.dtype == dtype


def test_scores_that_are_no_numbers_have_no_rank():
    scores, right = np.array([[0.2, np.nan], [0.5, 0.1]]), np.eye(2, dtype=bool)
    for use in (lambda: ranks(scores, right), lambda: top_k(scores, 1)):
        with pytest.raises(ValueError, match="scores must be finite, but row 0 holds NaN or infinity"):
            use()
    with pytest.raises(ValueError, match="right is an array of int64 .*; it must be an array .N, K. of True and False"):
        ranks(np.eye(2), right.astype(np.int64))
    with pytest.raises(ValueError, match=r"ranks: right has shape \(2, 1\), but scores is \(2, 2\)"):
        ranks(np.eye(2), right[:, :1])
    assert ranks(np.eye(2), np.zeros((2, 2), bool)).tolist() == [3, 3]  # none is right


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda k: st.tuples(
            st.lists(st.lists(st.integers(-2, 2), min_size=k, max_size=k), min_size=1, max_size=4),
            st.lists(st.booleans(), min_size=k, max_size=k).filter(any),
        )
    )
)
def test_ranks_against_a_loop(case):
    rows, right = case
    got = ranks(np.array(rows, np.float32), np.array([right] * len(rows)))
    for row, rank in zip(rows, got):
        best = max(score for score, r in zip(row, right) if r)
        assert rank == 1 + sum(score >= best for score, r in zip(row, right) if not r)


def test_a_collapsed_encoder_is_never_right(rng):
    same = np.repeat(unit(rng, 1, 384), 37, 0)
    wobble = same + rng.uniform(-1e-8, 1e-8, same.shape).astype(np.float32)  # as rounding in an encoder would
    for texts in (same, wobble):
        assert retrieval(same, texts)["image_to_text"] == {"R@1": 0, "R@5": 0, "R@10": 0, "median_rank": 37}


def brute_recall(scores, right):
    rank = [1 + sum(s >= max(row[r]) - TIE for s in row[~r]) for row, r in zip(scores, right)]
    return {**{f"R@{k}": np.mean([r <= k for r in rank]) for k in (1, 5, 10)}, "median_rank": np.median(rank)}


@pytest.mark.parametrize("images, texts_each", [(23, 5), (300, 2)])  # 300: more than one block
def test_retrieval_with_several_texts_for_an_image(images, texts_each, rng):
    owner = rng.permutation(np.repeat(np.arange(images), texts_each))
    zi = unit(rng, images, 12)
    zt = zi[owner] + 1.2 * unit(rng, len(owner), 12)
    zt /= np.sqrt((zt * zt).sum(1, keepdims=True))
    got = retrieval(zi, zt, owner)
    right = owner[None] == np.arange(images)[:, None]
    scores = zi.astype(float) @ zt.T.astype(float)
    assert got["image_to_text"] == pytest.approx(brute_recall(scores, right))
    assert got["text_to_image"] == pytest.approx(brute_recall(scores.T, right.T))
    assert got["image_to_text"]["R@1"] > got["text_to_image"]["R@1"] > 0


def test_retrieval_asks_only_for_images_that_have_a_text():
    eye = np.eye(4, dtype=np.float32)
    got = retrieval(eye, eye[[2, 2, 0]], [2, 2, 0])
    assert got["image_to_text"]["R@1"] == 1 and got["text_to_image"]["R@1"] == 1
    got = retrieval(eye, eye[[1]], [2])  # image 1 stands in the way of its text
    assert got["text_to_image"]["R@1"] == 0 and got["text_to_image"]["median_rank"] == 4


EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    "texts, owner, culprit",
    [
        (EYE[:2], None, "3 images and 2 texts"),
        (EYE, [0, 1], "one integer"),
        (EYE, [0, 1, 3], "from 0 to 2"),
        (EYE, [0.0, 1, 2], "one integer"),
        (3 * EYE, None, "text_features must be rows of length 1"),
        (np.eye(3, 4, dtype=np.float32), None, r"text_features has shape \(3, 4\), .*: it must be \(T, 3\)"),
    ],
)
def test_retrieval_names_what_does_not_fit(texts, owner, culprit):
    with pytest.raises(ValueError, match=culprit):
        retrieval(EYE, texts, owner)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_never_score(bad):
    broken = EYE.copy()
    broken[1, 2] = bad
    for use in (lambda: retrieval(EYE, broken), lambda: search(FakeClip(width=3), "cat", broken)):
        with pytest.raises(ValueError, match="row 1 holds NaN or infinity"):
            use()


def test_search_ranks_pictures_and_features_alike():
    names = [f"name {i}" for i in range(20)]
    clip = FakeClip(names)
    index, score = search(clip, "name 7", pictures_of(range(20)), count=4)
    assert index[0] == 7 and score[0] == pytest.approx(1) and (np.diff(score) <= 0).all() and len(index) == 4
    again = search(clip, "name 7", clip.encode_text(names), count=4)
    assert (again[0] == index).all() and (again[1] == score).all()
    with pytest.raises(ValueError, match="one string"):
        search(clip, ["cat"], pictures_of([1]))
