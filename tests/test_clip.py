"""The object that people hold: CLIP in model.py."""

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import CLIP, encode_image
from miniclip.gradcheck.random_inputs import RESNET, VIT
from miniclip.preprocess import CLIP_PREPROCESS, preprocess
from miniclip.tree import tree_map


def letters(texts, context_length):
    """A tokenizer of sorts: 1, then a number for each letter, then 19."""
    ids = np.zeros((len(texts), context_length), np.int64)
    for row, text in zip(ids, texts):
        word = [1] + [2 + ord(letter) % 17 for letter in text[: context_length - 2]] + [19]
        row[: len(word)] = word
    return ids


@pytest.fixture(params=[VIT, RESNET], ids=["vit", "resnet"])
def clip(request, inputs):
    params = tree_map(lambda a: a.astype(np.float32), inputs.parameters(request.param))
    return CLIP(params, request.param | {"preprocess": CLIP_PREPROCESS}, letters)


@pytest.fixture
def pictures(rng):
    sizes = [(20, 20), (64, 80), (9, 33), (70, 64), (8, 8)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def test_features_are_unit_rows_of_what_the_encoder_gives(clip, pictures):
    features = clip.encode_image(pictures)
    assert features.shape == (5, 6) and features.dtype == np.float32
    expected, _ = encode_image(clip.params, preprocess(pictures, clip.config), clip.config)
    assert np.allclose(features, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    texts = clip.encode_text(["fox", "a red fox", "owl"])
    assert texts.shape == (3, 6) and texts.dtype == np.float32
    assert np.allclose((texts**2).sum(1), 1, atol=1e-6)


def test_a_feature_does_not_depend_on_its_batch(clip, pictures):
    together, in_pairs = clip.encode_image(pictures), clip.encode_image(pictures, batch_size=2)
    assert np.allclose(in_pairs, together, atol=1e-5) and (in_pairs == clip.encode_image(pictures, batch_size=2)).all()
    for picture, row in zip(pictures, together):
        assert np.allclose(clip.encode_image([picture])[0], row, atol=1e-5)
    texts = ["fox", "owl", "a", "", "bear"]
    assert np.allclose(clip.encode_text(texts, batch_size=2), clip.encode_text(texts), atol=1e-5)
    assert np.allclose(clip.encode_text(texts[::-1])[::-1], clip.encode_text(texts), atol=1e-5)


def test_pictures_may_be_arrays(clip, rng):
    pixels = rng.integers(0, 256, (3, 20, 30, 3), np.uint8)
    from_pil = clip.encode_image([Image.fromarray(p) for p in pixels])
    assert (clip.encode_image(pixels) == from_pil).all()
    opaque = np.concatenate([pixels, np.full((3, 20, 30, 1), 255, np.uint8)], -1)
    assert np.allclose(clip.encode_image(opaque), from_pil, atol=1e-6)


def test_nothing_in_nothing_out(clip):
    assert clip.encode_image([]).shape == clip.encode_text([]).shape == (0, 6)
    assert clip.encode_image([]).dtype == np.float32


@pytest.mark.parametrize("templates", [None, ["{}", "a {}"]])
def test_classify_gives_probabilities_by_the_mean_of_the_prompts(clip, pictures, templates):
    names = ["fox", "owl", "bear"]
    probabilities = clip.classify(pictures, names, templates)
    assert probabilities.shape == (5, 3) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
    mean = sum(clip.encode_text([template.format(name) for name in names]) for template in templates or ["{}"])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    scores = np.exp(np.exp(float(clip.params["logit_scale"])) * clip.encode_image(pictures) @ mean.T)
    assert np.allclose(probabilities, scores / scores.sum(1, keepdims=True), atol=1e-5)
    assert np.allclose(clip.classify(pictures, ["fox"], templates), 1)


def test_bad_input_is_refused_in_a_sentence(clip, pictures):
    with pytest.raises(ValueError, match="texts is one string; give a list of strings"):
        clip.encode_text("fox")
    with pytest.raises(ValueError, match="one picture; give a list"):
        clip.encode_image(pictures[0])
    with pytest.raises(ValueError, match="a picture is a str; give PIL images"):
        clip.encode_image(["fox.png"])
    with pytest.raises(ValueError, match="a picture is an array of float64"):
        clip.encode_image(np.zeros((1, 8, 8, 3)))
    for names in ([], None, 5, "fox", ["fox", 3]):
        with pytest.raises(ValueError, match="names must be a list"):
            clip.classify(pictures, names)
    with pytest.raises(ValueError, match="images must be a list, not 5"):
        clip.encode_image(5)
    with pytest.raises(ValueError, match="CLIP.encode_text: batch_size is 0; it must be an integer of at least 1"):
        clip.encode_text(["fox"], batch_size=0)


def test_a_model_that_cannot_answer_in_finite_numbers_says_so(clip, pictures):
    clip.params["logit_scale"] = np.array(89, np.float32)
    with pytest.raises(ValueError, match="the model's logit_scale is 89; it is ln 1/τ, at most ln 100"):
        clip.classify(pictures, ["fox", "owl"])
    clip.params["text_projection"][0, 0] = np.nan
    with pytest.raises(ValueError, match="the features that this model gives must be finite, but row 0"):
        clip.encode_text(["fox"])


def test_raw_bytes_are_no_preprocessed_pictures(clip, rng):
    size = clip.config["vision_cfg"]["image_size"]
    pixels = rng.integers(0, 256, (2, 3, size, size), np.uint8)
    with pytest.raises(ValueError, match="encode_image: images is an array of uint8 .*; it must be .* floating-point"):
        encode_image(clip.params, pixels, clip.config)
    with pytest.raises(ValueError, match=r"numbers from \d to 255: these are no preprocessed pictures"):
        encode_image(clip.params, pixels.astype(np.float32), clip.config)
    with pytest.raises(ValueError, match="images must be finite, but row 1 holds NaN"):
        encode_image(clip.params, np.stack([pixels[0] * 0.0, pixels[1] * np.nan]), clip.config)


def test_a_tokenizer_of_another_model_is_noticed(clip):
    clip.tokenizer = lambda texts, length: np.array([[1, 4000, 19]] * len(texts))
    with pytest.raises(ValueError, match="this tokenizer does not belong to this model"):
        clip.encode_text(["fox"])
    clip.tokenizer = lambda texts, length: np.array([[1, 2, 3]] * len(texts))
    with pytest.raises(ValueError, match="a text has no end token"):
        clip.encode_text(["fox"])


def test_the_front_door(clip):
    assert all(map(callable, (miniclip.clip_loss, miniclip.siglip_loss, miniclip.load, miniclip.save)))
    assert clip.device == "cpu"
