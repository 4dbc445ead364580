"""Zero-shot classification against plain loops; bad names, templates and evaluations are refused."""

import numpy as np
import pytest
from fake_clip import FakeClip, pictures_of

from miniclip.data import Evaluation
from miniclip.evaluation import calibrated, class_embeddings, classify_or_none, evaluate
from miniclip.model import CLIP


def test_class_embeddings_average_the_unit_features_of_the_prompts():
    clip, names, templates = FakeClip(), ["cat", "{curly} {}", "pea"], ["{}", "an emoji of {}", "a {}, drawn"]
    got = class_embeddings(clip, names, templates)
    for row, name in zip(got, names):
        prompts = [name, "an emoji of " + name, "a " + name + ", drawn"]
        mean = sum(clip.encode_text([prompt])[0].astype(float) for prompt in prompts) / 3
        np.testing.assert_allclose(row, mean / np.sqrt((mean**2).sum()), atol=1e-6)
    np.testing.assert_allclose(class_embeddings(clip, names), clip.encode_text(names), atol=1e-6)


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
def test_bad_names_and_templates_are_refused(names, templates, culprit):
    with pytest.raises(ValueError, match=culprit):
        class_embeddings(FakeClip(), names, templates)


@pytest.mark.parametrize("logit_scale", [0.0, np.log(100), 12.0])
def test_classify_is_the_softmax_of_scaled_cosines(logit_scale, monkeypatch):
    """`CLIP.classify` with the encoders of FakeClip."""
    fake, names, templates = FakeClip(["pea", "pod", "fox"]), ["pea", "pod", "cat", "sun"], ["{}", "a {}"]
    clip = CLIP({"logit_scale": np.float32(logit_scale)}, {}, None)
    monkeypatch.setattr(clip, "encode_text", fake.encode_text)
    monkeypatch.setattr(clip, "encode_image", fake.encode_image)
    p = clip.classify(pictures_of([0, 1, 2, 1]), names, templates)
    assert p.dtype == np.float32 and np.isfinite(p).all()
    classes = class_embeddings(fake, names, templates).astype(float)
    for row, image in zip(p, fake.encode_image(pictures_of([0, 1, 2, 1])).astype(float)):
        logits = np.exp(logit_scale) * classes @ image
        e = np.exp(logits - logits.max())
        np.testing.assert_allclose(row, e / e.sum(), rtol=2e-2 if logit_scale > 10 else 1e-4, atol=1e-7)


class Calibrated(FakeClip):
    """A fake that was calibrated."""

    config = {"embed_dim": 16}

    def __init__(self, texts, **fitted):
        super().__init__(texts)
        self.about = {"classify": {"scale": 7.0, "none": 0.3} | fitted}


@pytest.mark.parametrize("templates", [None, ["{}", "a {}"]])
def test_none_of_these_is_one_of_the_answers(templates):
    """p by plain loops; and of a picture of nothing, no name has any."""
    names, pictures = ["pea", "pod", "cat"], pictures_of([0, 1, 2])
    clip = Calibrated(["pea", "pod", "fox"])
    p = classify_or_none(clip, pictures, names, templates)
    assert p.shape == (3, 4) and p.dtype == np.float32
    classes = class_embeddings(clip, names, templates or ["{}"]).astype(float)
    images = clip.encode_image(pictures).astype(float)
    for row, image in zip(p, images):
        weights = [np.exp(7.0 * float(image @ c)) for c in classes] + [3 * np.exp(7.0 * 0.3)]
        np.testing.assert_allclose(row, np.array(weights) / sum(weights), atol=1e-6)
    assert p[0].argmax() == 0 and p[1].argmax() == 1 and p[2, 3] > 0.3

    nothing = {"weight": (20 * images[0]).tolist(), "bias": -10.0}
    q = classify_or_none(Calibrated(clip.texts, nothing=nothing), pictures, names, templates)
    chance = 1 / (1 + np.exp(10 - 20 * images @ images[0]))
    np.testing.assert_allclose(q[:, :3], (1 - chance)[:, None] * p[:, :3], atol=1e-6)
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-6)
    assert chance[0] > 0.99 and chance[1:].max() < 0.9


def test_a_model_that_was_not_calibrated_cannot_say_none_of_these():
    clip = Calibrated(["pea"])
    assert calibrated(clip) is clip.about["classify"]
    clip.about = {}
    assert calibrated(clip) is None
    with pytest.raises(ValueError, match="not calibrated.*python -m miniclip calibrate"):
        classify_or_none(clip, pictures_of([0]), ["pea", "pod"])


@pytest.mark.parametrize(
    "fitted",
    [
        5,
        [],
        {},
        {"scale": 3.0},
        {"scale": "3", "none": 0.1},
        {"scale": -3.0, "none": 0.1},
        {"scale": float("nan"), "none": 0.1},
        {"scale": 3.0, "none": 1e9},
        {"scale": True, "none": 0.1},
        {"scale": 3.0, "none": 0.1, "nothing": None},
        {"scale": 3.0, "none": 0.1, "nothing": {"weight": [0.0] * 15, "bias": 0}},
        {"scale": 3.0, "none": 0.1, "nothing": {"weight": [0.0] * 15 + ["x"], "bias": 0}},
        {"scale": 3.0, "none": 0.1, "nothing": {"weight": [0.0] * 16}},
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(fitted):
    clip = Calibrated(["pea"])
    clip.about = {"classify": fitted}
    with pytest.raises(ValueError, match="calibrate it again"):
        calibrated(clip)


def test_evaluate_counts_hits_among_all_names(rng):
    names = [f"name {i}" for i in range(40)]
    shown, answer = np.arange(30), np.where(np.arange(30) < 20, np.arange(30), rng.integers(0, 40, 30))
    clip = FakeClip(names)
    got = evaluate(clip, Evaluation("x", pictures_of(shown), answer, names, templates=["{}", "a drawing of {}"]))

    images = [clip.encode_text([names[i]])[0] for i in shown]
    for kind, templates in (("", ["{}"]), ("ensemble_", ["{}", "a drawing of {}"])):
        classes = class_embeddings(clip, names, templates)
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
    got = evaluate(FakeClip(names), Evaluation("x", pictures_of([7, 5, 11]), np.array([7, 1, 4]), names, candidates))
    images = FakeClip(names).encode_text([names[11], *(names[i] for i in candidates[2])]).astype(float)
    third = (images[0] @ images[1:].T).argmax() == 0  # 7: right; 5 shown, 1 asked: wrong; 11 is no candidate
    assert got["top1"] == pytest.approx((1 + third) / 3) and got["top5"] == 1
    assert got["choices"] == 3 and got["chance"] == pytest.approx(1 / 3)


def test_names_that_the_model_cannot_tell_apart_are_misses():
    class Deaf(FakeClip):
        def encode_text(self, texts):
            return super().encode_text([text.lower() for text in texts])

    names = ["pea", "pod", "PEA"]
    got = evaluate(Deaf(names), Evaluation("x", pictures_of([0, 1]), np.array([0, 1]), names))
    assert got["top1"] == 0.5


def test_an_evaluation_without_pictures_is_refused():
    with pytest.raises(ValueError, match="'empty' must have at least one picture"):
        evaluate(FakeClip("ab"), Evaluation("empty", pictures_of([]), np.zeros(0, np.int64), ["a", "b"]))
