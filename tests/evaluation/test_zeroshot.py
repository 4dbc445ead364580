"""Zero-shot use against plain loops, and its promises: ties are misses, bad input is one sentence."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip import zeroshot as z


def unit(rng, *shape, dtype=np.float32):
    x = rng.standard_normal(shape)
    return (x / np.sqrt((x * x).sum(-1, keepdims=True))).astype(dtype)


class FakeClip:
    """Every text has its own random direction; a picture's is that of the text its corner pixel counts."""

    def __init__(self, texts=(), width=16):
        self.texts, self.width = list(texts), width

    def encode_text(self, texts):
        return np.stack([unit(np.random.default_rng(list(text.encode())), self.width) for text in texts])

    def encode_image(self, pictures):
        assert pictures.dtype == np.uint8 and pictures.shape[1:] == (4, 4, 4)
        return self.encode_text([self.texts[picture[0, 0, 0]] for picture in pictures])


def pictures_of(indices):
    pictures = np.full((len(indices), 4, 4, 4), 255, np.uint8)
    pictures[:, 0, 0, 0] = indices
    return pictures


def evaluation(pictures, answer, names, candidates=None, templates=("{}", "a drawing of {}")):
    return SimpleNamespace(
        name="test",
        pictures=pictures,
        answer=np.array(answer),
        names=list(names),
        candidates=candidates,
        templates=list(templates),
    )


# ------------------------------------------------------------------------------------------ classes


def test_class_embeddings_average_the_unit_features_of_the_prompts():
    clip, names, templates = FakeClip(), ["cat", "{curly} {}", "pea"], ["{}", "an emoji of {}", "a {}, drawn"]
    got = z.class_embeddings(clip, names, templates)
    for row, name in zip(got, names):
        prompts = [name, "an emoji of " + name, "a " + name + ", drawn"]
        mean = sum(clip.encode_text([prompt])[0].astype(float) for prompt in prompts) / 3
        np.testing.assert_allclose(row, mean / np.sqrt((mean**2).sum()), atol=1e-6)
    np.testing.assert_allclose(z.class_embeddings(clip, names), clip.encode_text(names), atol=1e-6)


@pytest.mark.parametrize(
    "names, templates, culprit",
    [
        ([], ["{}"], "names must be a list"),
        ("cat", ["{}"], "names must be a list"),
        ([3], ["{}"], "names must be"),
        (["cat"], [], "templates must be a list"),
        (["cat"], "{}", "templates must be a list"),
        (["cat"], ["{}", "a photo"], "'a photo' must contain {}"),
        (["cat"], ["{} {}"], "exactly once"),
    ],
)
def test_bad_names_and_templates_are_named(names, templates, culprit):
    with pytest.raises(ValueError, match=culprit):
        z.class_embeddings(FakeClip(), names, templates)


@pytest.mark.parametrize("logit_scale", [0.0, np.log(100), 12.0])
def test_classify_is_the_softmax_of_scaled_cosines(logit_scale):
    rng = np.random.default_rng(0)
    images, classes = unit(rng, 5, 8, dtype=float), unit(rng, 7, 8, dtype=float)
    p = z.classify(images, classes, logit_scale)
    assert np.isfinite(p).all()
    for i in range(5):
        logits = [np.exp(logit_scale) * float(images[i] @ c) for c in classes]
        e = [np.exp(logit - max(logits)) for logit in logits]
        np.testing.assert_allclose(p[i], np.array(e) / sum(e), rtol=1e-9, atol=1e-15)
    assert z.classify(images.astype(np.float32), classes.astype(np.float32), np.float32(2)).dtype == np.float32


def test_top_k_keeps_the_order_of_equals():
    index, score = z.top_k(np.array([[1.0, 3, 3, 2], [0, 0, 0, 0]]), 3)
    assert index.tolist() == [[1, 2, 3], [0, 1, 2]] and score.tolist() == [[3, 3, 2], [0, 0, 0]]
    assert z.top_k(np.arange(300.0) // 100, 250)[0].tolist() == [*range(200, 300), *range(100, 200), *range(50)]
    assert z.top_k(np.array([5.0, 6]), 9)[0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="k must be at least 1"):
        z.top_k(np.zeros((1, 2)), 0)


# ------------------------------------------------------------------------------------------ measures


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
    got = z.ranks(np.array(rows, np.float32), np.array([right] * len(rows)))
    for row, rank in zip(rows, got):
        best = max(score for score, r in zip(row, right) if r)
        assert rank == 1 + sum(score >= best for score, r in zip(row, right) if not r)


def test_a_collapsed_encoder_is_never_right():
    rng = np.random.default_rng(0)
    same = np.repeat(unit(rng, 1, 384), 37, 0)
    wobble = same + rng.uniform(-1e-8, 1e-8, same.shape).astype(np.float32)  # as rounding in an encoder would
    for texts in (same, wobble):
        result = z.retrieval(same, texts)
        assert result["image_to_text"] == {"R@1": 0, "R@5": 0, "R@10": 0, "median_rank": 37}


def test_evaluate_counts_hits_among_all_names():
    rng = np.random.default_rng(1)
    names = [f"name {i}" for i in range(40)]
    shown, answer = np.arange(30), np.where(np.arange(30) < 20, np.arange(30), rng.integers(0, 40, 30))
    clip = FakeClip(names)
    got = z.evaluate(clip, evaluation(pictures_of(shown), answer, names))

    images = [clip.encode_text([names[i]])[0] for i in shown]
    for kind, templates in (("", ["{}"]), ("ensemble_", ["{}", "a drawing of {}"])):
        classes = z.class_embeddings(clip, names, templates)
        rank = [
            1 + sum(float(image @ c) > float(image @ classes[a]) + 1e-6 for c in classes)
            for image, a in zip(images, answer)
        ]
        for k in (1, 5):
            assert got[f"{kind}top{k}"] == pytest.approx(np.mean([r <= k for r in rank]))
    assert got["top1"] == np.mean(shown == answer) and got["ensemble_top1"] >= 0.5
    assert (got["n"], got["choices"], got["chance"]) == (30, 40, 1 / 40)


def test_evaluate_with_candidates_of_its_own():
    names = [f"name {i}" for i in range(12)]
    candidates = np.array([[0, 3, 7], [1, 2, 5], [4, 8, 9]])
    got = z.evaluate(FakeClip(names), evaluation(pictures_of([7, 5, 11]), [7, 1, 4], names, candidates, ["{}"]))
    images = FakeClip(names).encode_text([names[11], *(names[i] for i in candidates[2])]).astype(float)
    third = (images[0] @ images[1:].T).argmax() == 0  # 7: right; 5 shown, 1 asked: wrong; 11 is no candidate
    assert got["top1"] == pytest.approx((1 + third) / 3) and got["top5"] == 1
    assert got["choices"] == 3 and got["chance"] == pytest.approx(1 / 3)


def test_equal_names_tie_and_miss():
    names = ["pea", "pod", "pea"]
    got = z.evaluate(FakeClip(names), evaluation(pictures_of([0, 1]), [0, 1], names))
    assert got["top1"] == 0.5


@pytest.mark.parametrize(
    "change, culprit",
    [
        ({"answer": [0]}, r"2 pictures, answers \(1,\)"),
        ({"answer": [0, 9]}, "answer 9 of picture 1 is not"),
        ({"candidates": np.array([[0, 1], [0, 5]])}, "indices into its 3 names"),
        ({"candidates": np.array([[0, 1], [0, 2]])}, "answer 1 of picture 1"),
        ({"candidates": np.array([[0, 1]])}, r"candidates \(1, 2\)"),
        ({"pictures": pictures_of([])}, "at least one picture"),
        ({"names": []}, "at least one picture"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_named(change, culprit):
    good = dict(pictures=pictures_of([0, 1]), answer=[0, 1], names=["a", "b", "c"])
    with pytest.raises(ValueError, match=culprit):
        z.evaluate(FakeClip("abc"), evaluation(**{**good, **change}))


def brute_recall(scores, right):
    rank = [1 + sum(s >= max(row[r]) - z.TIE for s in row[~r]) for row, r in zip(scores, right)]
    return {**{f"R@{k}": np.mean([r <= k for r in rank]) for k in (1, 5, 10)}, "median_rank": np.median(rank)}


@pytest.mark.parametrize("images, texts_each", [(23, 5), (300, 2)])  # 300: more than one block
def test_retrieval_with_several_texts_for_an_image(images, texts_each):
    rng = np.random.default_rng(2)
    owner = rng.permutation(np.repeat(np.arange(images), texts_each))
    zi = unit(rng, images, 12)
    zt = zi[owner] + 1.2 * unit(rng, len(owner), 12)
    zt /= np.sqrt((zt * zt).sum(1, keepdims=True))
    got = z.retrieval(zi, zt, owner)
    right = owner[None] == np.arange(images)[:, None]
    scores = zi.astype(float) @ zt.T.astype(float)
    assert got["image_to_text"] == pytest.approx(brute_recall(scores, right))
    assert got["text_to_image"] == pytest.approx(brute_recall(scores.T, right.T))
    assert got["image_to_text"]["R@1"] > got["text_to_image"]["R@1"] > 0


def test_retrieval_asks_only_for_images_that_have_a_text():
    eye = np.eye(4, dtype=np.float32)
    got = z.retrieval(eye, eye[[2, 2, 0]], [2, 2, 0])
    assert got["image_to_text"]["R@1"] == 1 and got["text_to_image"]["R@1"] == 1
    got = z.retrieval(eye, eye[[1]], [2])  # image 1 stands in the way of its text
    assert got["text_to_image"]["R@1"] == 0 and got["text_to_image"]["median_rank"] == 4


def test_retrieval_names_what_does_not_fit():
    eye = np.eye(3, dtype=np.float32)
    for texts, owner, culprit in [
        (eye[:2], None, "3 images and 2 texts"),
        (eye, [0, 1], "one integer"),
        (eye, [0, 1, 3], "from 0 to 2"),
        (eye, [0.0, 1, 2], "one integer"),
        (3 * eye, None, "text_features must be rows of length 1"),
        (np.eye(3, 4, dtype=np.float32), None, "width"),
    ]:
        with pytest.raises(ValueError, match=culprit):
            z.retrieval(eye, texts, owner)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_never_score(bad):
    eye, broken = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    broken[1, 2] = bad
    for use in (
        lambda: z.classify(broken, eye, 1.0),
        lambda: z.retrieval(eye, broken),
        lambda: z.search(FakeClip(width=3), "cat", broken),
    ):
        with pytest.raises(ValueError, match="row 1 holds NaN or infinity"):
            use()


def test_search_ranks_pictures_and_features_alike():
    names = [f"name {i}" for i in range(20)]
    clip = FakeClip(names)
    index, score = z.search(clip, "name 7", pictures_of(range(20)), count=4)
    assert index[0] == 7 and score[0] == pytest.approx(1) and (np.diff(score) <= 0).all() and len(index) == 4
    again = z.search(clip, "name 7", clip.encode_text(names), count=4)
    assert (again[0] == index).all() and (again[1] == score).all()
    with pytest.raises(ValueError, match="one string"):
        z.search(clip, ["cat"], pictures_of([1]))
