"""The object that people hold: CLIP in model.py."""

from types import SimpleNamespace

import numpy as np
import pytest
from formulas import random_parameters
from PIL import Image
from test_model import RESNET, VIT

import miniclip
from miniclip import CLIP, encode_image
from miniclip.model import initialize
from miniclip.preprocess import preprocess
from miniclip.tree import tree_map


def letters(texts, context_length):
    """A tokenizer of sorts: 1, then a number for each letter, then 39."""
    ids = np.zeros((len(texts), context_length), np.int64)
    for row, text in zip(ids, texts):
        word = [1] + [2 + ord(letter) % 37 for letter in text[: context_length - 2]] + [39]
        row[: len(word)] = word
    return ids


@pytest.fixture(params=[VIT, RESNET], ids=["vit", "resnet"])
def clip(request):
    rng = np.random.default_rng(0)
    params = tree_map(lambda a: a.astype(np.float32), random_parameters(request.param, rng))
    return CLIP(params, request.param, letters)


@pytest.fixture
def pictures(rng):
    sizes = [(20, 20), (64, 80), (9, 33), (70, 64), (8, 8)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def test_features_of_pictures_are_unit_rows(clip, pictures):
    features = clip.encode_image(pictures)
    assert features.shape == (5, 5) and features.dtype == np.float32
    assert np.allclose((features**2).sum(1), 1, atol=1e-6)


def test_features_of_texts_are_unit_rows(clip):
    features = clip.encode_text(["fox", "a red fox", "owl"])
    assert features.shape == (3, 5) and features.dtype == np.float32
    assert np.allclose((features**2).sum(1), 1, atol=1e-6)


def test_a_feature_does_not_depend_on_its_batch(clip, pictures):
    together = clip.encode_image(pictures)
    assert np.allclose(clip.encode_image(pictures, batch=2), together, atol=1e-5)
    for picture, row in zip(pictures, together):
        assert np.allclose(clip.encode_image([picture])[0], row, atol=1e-5)
    texts = ["fox", "owl", "a", "", "bear"]
    assert np.allclose(clip.encode_text(texts, batch=2), clip.encode_text(texts), atol=1e-5)
    assert np.allclose(clip.encode_text(texts[::-1])[::-1], clip.encode_text(texts), atol=1e-5)


def test_the_same_call_gives_the_same_bits(clip, pictures):
    assert (clip.encode_image(pictures, batch=2) == clip.encode_image(pictures, batch=2)).all()


def test_pictures_may_be_arrays(clip, rng):
    pixels = rng.integers(0, 256, (3, 20, 30, 3), np.uint8)
    from_pil = clip.encode_image([Image.fromarray(p) for p in pixels])
    assert (clip.encode_image(pixels) == from_pil).all()
    opaque = np.concatenate([pixels, np.full((3, 20, 30, 1), 255, np.uint8)], -1)
    assert np.allclose(clip.encode_image(opaque), from_pil, atol=1e-6)


def test_the_object_is_the_function_on_a_normal_row(clip, pictures):
    features, _ = encode_image(clip.params, preprocess(pictures, clip.config), clip.config)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(clip.encode_image(pictures), features, atol=1e-5)


def test_nothing_in_nothing_out(clip):
    assert clip.encode_image([]).shape == clip.encode_text([]).shape == (0, 5)
    assert clip.encode_image([]).dtype == np.float32


def test_classify_gives_probabilities(clip, pictures):
    probabilities = clip.classify(pictures, ["fox", "owl", "bear"])
    assert probabilities.shape == (5, 3) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
    cos = clip.encode_image(pictures) @ clip.encode_text(["fox", "owl", "bear"]).T
    scores = np.exp(np.exp(float(clip.params["logit_scale"])) * cos)
    assert np.allclose(probabilities, scores / scores.sum(1, keepdims=True), atol=1e-5)
    assert np.allclose(clip.classify(pictures, ["fox"]), 1)


def test_classify_with_templates_averages_the_prompts(clip, pictures):
    templates = ["{}", "a {}"]
    mean = sum(clip.encode_text([template.format(name) for name in ("fox", "owl")]) for template in templates) / 2
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    scores = np.exp(np.exp(float(clip.params["logit_scale"])) * clip.encode_image(pictures) @ mean.T)
    expected = scores / scores.sum(1, keepdims=True)
    assert np.allclose(clip.classify(pictures, ["fox", "owl"], templates), expected, atol=1e-5)


def test_bad_input_is_refused_in_a_sentence(clip, pictures):
    with pytest.raises(ValueError, match="texts is one string; give a list of strings"):
        clip.encode_text("fox")
    with pytest.raises(ValueError, match="one picture; give a list"):
        clip.encode_image(pictures[0])
    with pytest.raises(ValueError, match="a picture is a str; give PIL images"):
        clip.encode_image(["fox.png"])
    with pytest.raises(ValueError, match="a picture is an array of float64"):
        clip.encode_image(np.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="names must be a list"):
        clip.classify(pictures, [])


def test_a_tokenizer_of_another_model_is_noticed(clip):
    clip.tokenizer = lambda texts, length: np.array([[1, 4000, 39]] * len(texts))
    with pytest.raises(ValueError, match="this tokenizer does not belong to this model"):
        clip.encode_text(["fox"])
    clip.tokenizer = lambda texts, length: np.array([[1, 2, 3]] * len(texts))
    with pytest.raises(ValueError, match="a text has no end token"):
        clip.encode_text(["fox"])


def test_the_front_door():
    assert callable(miniclip.clip_loss) and callable(miniclip.siglip_loss)
    assert CLIP(initialize(VIT), VIT, SimpleNamespace()).device == "cpu"
