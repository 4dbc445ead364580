"""Probabilities that are as sure as they are right."""

import numpy as np
import pytest

from miniclip.evaluation import calibration, fit_scale


def pictures_of_a_model(rng, n, k, scale, none):
    """Cosines of n pictures with k names, and answers drawn from the probabilities of a true scale and threshold."""
    cosines = rng.uniform(-0.2, 0.9, (n, k))
    logits = scale * np.concatenate([cosines, np.full((n, 1), none)], 1)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    answer = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return cosines, np.where(answer == k, -1, answer), p


@pytest.mark.parametrize(("scale", "none"), [(30.0, 0.75), (8.0, 0.5), (100.0, 0.85)])
def test_the_scale_and_the_threshold_are_found_again(scale, none):
    cosines, answer, _ = pictures_of_a_model(np.random.default_rng(0), 20_000, 10, scale, none)
    found, threshold = fit_scale(cosines, answer)
    assert found == pytest.approx(scale, rel=0.03) and threshold == pytest.approx(none, abs=0.01)


def test_it_is_the_minimum():
    cosines, answer, _ = pictures_of_a_model(np.random.default_rng(1), 300, 5, 20.0, 0.6)
    scale, threshold = fit_scale(cosines, answer)

    def loss(scale, u):
        logits = np.concatenate([scale * cosines, np.full((len(cosines), 1), u)], 1)
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(answer)), answer]).mean()

    best = loss(scale, scale * threshold)
    for ds, du in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert loss(scale + ds, scale * threshold + du) > best


def test_answers_drawn_from_their_probabilities_are_calibrated():
    _, answer, p = pictures_of_a_model(np.random.default_rng(2), 20_000, 4, 6.0, 0.6)
    best = p.argmax(1)
    found = calibration(p.max(1), np.where(best == 4, -1, best) == answer)
    assert found["ece"] < 0.01 and found["count"].sum() == 20_000
    too_sure = calibration(np.full(100, 0.95), np.arange(100) < 60)
    assert too_sure["ece"] == pytest.approx(0.35) and np.isnan(too_sure["accuracy"][0])
    assert calibration(np.ones(3), np.ones(3, bool))["ece"] == 0


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
        fit_scale(cosines, answer)


@pytest.mark.parametrize(
    ("p", "right", "bins"),
    [([0.5, 1.5], [True, False], 5), ([0.5], [1], 5), ([np.nan], [True], 5), ([0.5], [True], 0), ([], [], 5)],
)
def test_what_are_no_probabilities_is_refused(p, right, bins):
    with pytest.raises(ValueError, match="probabilities must be"):
        calibration(p, np.array(right), bins)
