"""Probabilities that are as sure as they are right, and what shows nothing."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

import miniclip
from miniclip.commands.calibrate import pictures_of_nothing
from miniclip.data import emoji_names, emoji_pictures
from miniclip.evaluation import (
    calibration,
    classify_or_none,
    draw_tasks,
    fit_calibrated,
    fit_nothing,
    fit_scale,
    reliability,
)
from miniclip.evaluation.calibration import log_probabilities


def pictures_of_a_model(rng, n, k, scale, none):
    """Cosines of n pictures with k names, and answers drawn from the probabilities of a true scale and cosine."""
    cosines = rng.uniform(-0.2, 0.9, (n, k))
    logits = np.concatenate([scale * cosines, np.full((n, 1), scale * none + np.log(k))], 1)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    answer = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return cosines, np.where(answer == k, -1, answer), p


@pytest.mark.parametrize(("scale", "none"), [(30.0, 0.75), (8.0, 0.5), (100.0, 0.85)])
def test_the_scale_and_the_cosine_are_found_again_from_few_names_and_many(scale, none):
    rng = np.random.default_rng(0)
    tasks = [pictures_of_a_model(rng, 10_000, k, scale, none)[:2] for k in (5, 60)]
    found, cosine = fit_scale(tasks)
    assert found == pytest.approx(scale, rel=0.03) and cosine == pytest.approx(none, abs=0.01)


def test_it_is_the_minimum():
    rng = np.random.default_rng(1)
    tasks = [pictures_of_a_model(rng, n, k, 20.0, 0.6)[:2] for n, k in ((300, 5), (50, 40))]
    scale, none = fit_scale(tasks)

    def loss(scale, u):
        total = 0
        for cosines, answer in tasks:
            logits = np.concatenate([scale * cosines, np.full((len(cosines), 1), u + np.log(cosines.shape[1]))], 1)
            total += (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(answer)), answer]).mean()
        return total

    best = loss(scale, scale * none)
    for ds, du in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert loss(scale + ds, scale * none + du) > best


def test_a_scale_that_is_given_stays():
    tasks = [pictures_of_a_model(np.random.default_rng(4), 5_000, 10, 20.0, 0.6)[:2]]
    scale, none = fit_scale(tasks, scale=20.0)
    assert scale == 20 and none == pytest.approx(0.6, abs=0.01)
    assert fit_scale(tasks, scale=5.0)[0] == 5


def test_a_few_pictures_that_look_like_nothing_known_do_not_make_the_others_unsure():
    rng = np.random.default_rng(5)
    cosines, answer, _ = pictures_of_a_model(rng, 4_000, 10, 20.0, 0.6)
    cosines[:400] = rng.uniform(-0.2, 0.9, (400, 10))  # one in ten has a name by chance
    (likeliest, _), (scale, _) = fit_scale([(cosines, answer)]), fit_calibrated([(cosines, answer)])
    error = lambda scale: reliability([(cosines, answer)], scale, 0.0)[0]["named_ece"]
    assert likeliest < scale < 20 and error(scale) < error(likeliest)


def test_names_that_are_all_alike_share_with_none_of_these():
    """K names of the cosine t, and as much again for none: whatever K."""
    for k in (1, 30, 1500):
        p = np.exp(log_probabilities(np.full((1, k), 0.4), 20.0, 20.0 * 0.4))[0]
        np.testing.assert_allclose(p, [*[0.5 / k] * k, 0.5])


def test_answers_drawn_from_their_probabilities_are_calibrated():
    cosines, answer, p = pictures_of_a_model(np.random.default_rng(2), 20_000, 4, 6.0, 0.6)
    best = p.argmax(1)
    found = calibration(p.max(1), np.where(best == 4, -1, best) == answer)
    assert found["ece"] < 0.01 and found["count"].sum() == 20_000
    too_sure = calibration(np.full(100, 0.95), np.arange(100) < 60)
    assert too_sure["ece"] == pytest.approx(0.35) and np.isnan(too_sure["accuracy"][0])
    assert calibration(np.ones(3), np.ones(3, bool))["ece"] == 0

    (row,) = reliability([(cosines, answer)], 6.0, 0.6)
    assert row["ece"] == pytest.approx(found["ece"]) and row["named_ece"] < 0.03 and row["names"] == 4
    assert row["confidence"] == pytest.approx(p.max(1).mean()) and 0.3 < row["accuracy"] < row["named_accuracy"] < 0.8
    (row,) = reliability([(cosines, answer)], 60.0, 0.6)
    assert row["ece"] > 0.2 and row["named_confidence"] > row["named_accuracy"] + 0.2


def test_each_picture_is_asked_about_with_its_name_and_without():
    rng = np.random.default_rng(3)
    cosines, answer = rng.permutation(50 * 40).reshape(50, 40).astype(float), rng.integers(0, 40, 50)
    tasks = draw_tasks(cosines, answer, counts=(2, 39, 40, 500))
    assert [task.shape for task, _ in tasks] == [(100, 2), (100, 39)]
    for task, known in tasks:
        assert known.tolist() == [0] * 50 + [-1] * 50
        for picture, row in enumerate(task):
            own = cosines[picture % 50]
            assert len(set(row)) == len(row) and set(row) <= set(own)
            place = np.flatnonzero(row == own[answer[picture % 50]]).tolist()
            assert place == ([0] if picture < 50 else [])
    assert [task.shape for task, _ in draw_tasks(cosines[:, :3], answer % 3)] == [(100, 2)]
    with pytest.raises(ValueError, match="at least two names"):
        draw_tasks(cosines[:, :1], answer * 0)


@pytest.mark.parametrize(
    ("cosines", "answer"),
    [
        (np.ones((3, 2)), np.array([0, 1, 2])),
        (np.ones((3, 2)), np.array([0, 1, 1])),
        (np.ones((3, 2)), np.array([-1, -1, -1])),
        (np.ones((3, 2)), np.array([0.0, 1, -1])),
        (np.full((3, 2), np.nan), np.array([0, 1, -1])),
        (np.ones(3), np.array([0, 1, -1])),
        (np.array([[0.9, 0.1], [0.1, 0.8], [0.5, 0.5]]), np.array([0, 1, -1])),  # any large scale is right of all
        (np.array([[0.9, 0.1], [0.8, 0.1], [0.1, 0.1]]), np.array([1, 1, -1])),  # the right ones are the furthest
    ],
)
def test_what_cannot_be_fitted_is_refused(cosines, answer):
    with pytest.raises(ValueError):
        fit_scale([(cosines, answer)])


def test_pictures_of_nothing_are_of_many_kinds():
    pictures = pictures_of_nothing(60, 16)
    assert pictures.shape == (60, 16, 16, 3) and pictures.dtype == np.uint8
    assert (pictures_of_nothing(60, 16) == pictures).all() and (pictures_of_nothing(60, 16, seed=1) != pictures).any()
    flat = pictures.reshape(60, -1, 3)
    one_colour = (flat == flat[:, :1]).all((1, 2))
    rough = abs(np.diff(pictures.astype(float), axis=1)).mean((1, 2, 3))
    assert 5 <= one_colour.sum() <= 20 and len(np.unique(flat[one_colour, 0], axis=0)) > 5
    assert rough.max() > 60 and ((rough > 1) & (rough < 15)).sum() > 5


def test_what_shows_nothing_is_told_by_its_embedding(rng):
    away = np.eye(8)[0]
    some, nothing = (rng.standard_normal((50, 8)) * 0.2 + side * away for side in (-1, 1))
    found = fit_nothing(some, nothing)
    score = lambda z: z @ np.array(found["weight"]) + found["bias"]
    assert score(some).max() < -1 and score(nothing).min() > 1


# ------------------------------------------------------------------------------------------ the model that ships


@pytest.fixture(scope="module")
def shipped():
    """The model that ships and the names of all emoji."""
    clip = miniclip.load("emoji")
    names = list(dict.fromkeys(entry["name"] for entry in emoji_names() if entry["char"]))
    return clip, names


def noise(rng):
    """Uniform and Gaussian noise of several sizes, sharp and blurred, loud and faint; PIL images."""
    found = []
    for size in (32, 64, 150):
        for spread in (None, 60, 8):
            pixels = (
                rng.uniform(0, 255, (size, size, 3)) if spread is None else rng.normal(128, spread, (size, size, 3))
            )
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            found += [picture, picture.convert("L"), Image.fromarray((pixels > 128).astype(np.uint8) * 255)]
            found += [picture.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 3, 9)]
    return found


def blank(rng):
    colours = ["white", "black", "grey", "red", "lime", "blue", "yellow", "cyan", "magenta", "orange", "pink", "brown"]
    colours += [tuple(colour) for colour in rng.integers(0, 256, (20, 3)).tolist()]
    return [Image.new("RGB", (48, 48), colour) for colour in colours]


@pytest.mark.parametrize("kind", [noise, blank])
def test_noise_and_blank_pictures_have_no_name(shipped, rng, kind, monkeypatch):
    """Not above 0.5, of 30 names, drawn twelve times; nor of those that it is most likely to be taken for."""
    clip, names = shipped
    pictures = kind(rng)
    features = clip.encode_image(pictures)
    monkeypatch.setattr(clip, "encode_image", lambda _: features)
    likely = clip.classify(pictures, names).max(0).argsort()[::-1]
    for asked in [likely[:30], *(rng.choice(len(names), 30, replace=False) for _ in range(12))]:
        p = classify_or_none(clip, pictures, [names[i] for i in asked])
        assert p.shape == (len(pictures), 31) and p[:, :-1].max() <= 0.5, names[asked[p[:, :-1].max(0).argmax()]]


def test_a_picture_of_something_is_not_taken_for_nothing(shipped):
    """Pictures of an artist it has not seen: of nine in ten it is sure that they show something."""
    clip, names = shipped
    pictures, _ = emoji_pictures("fluent", 64)
    nothing = clip.about["classify"]["nothing"]
    score = clip.encode_image(pictures[::16]) @ np.array(nothing["weight"]) + nothing["bias"]
    assert np.mean(score < -np.log(9)) > 0.9
    p = classify_or_none(clip, pictures[::16], names[:30])
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("p", "right", "bins"),
    [([0.5, 1.5], [True, False], 5), ([0.5], [1], 5), ([np.nan], [True], 5), ([0.5], [True], 0), ([], [], 5)],
)
def test_what_are_no_probabilities_is_refused(p, right, bins):
    with pytest.raises(ValueError, match="probabilities must be"):
        calibration(p, np.array(right), bins)
