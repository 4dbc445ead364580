"""One step of training: the same gradient in micro-batches, on any number of threads."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.conv import conv2d
from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.loss import clip_loss
from miniclip.model import encode_image, encode_text
from miniclip.train_step import is_statistic, loss_and_gradient
from miniclip.tree import Flat, flatten, tree_map

RESNET = RESNET | {"vision_cfg": RESNET["vision_cfg"] | {"image_size": 32}}
CONFIGS = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
N = 7


@pytest.fixture
def images(inputs):
    return lambda config: inputs.images(N, config)


@pytest.fixture
def tokens(inputs):
    return inputs.tokens(N)


def parameters(config, dtype=np.float64):
    return tree_map(lambda leaf: leaf.astype(dtype), RandomInputs(5).parameters(config))


def cut(images, tokens, sizes):
    ends = np.cumsum(sizes)
    assert ends[-1] == len(images)
    return [(images[end - n : end], tokens[end - n : end]) for n, end in zip(sizes, ends)]


def step(params, micro_batches, config, **options):
    """One step -> what it returns, and {name: gradient}. The buffer starts as noise that must not be seen."""
    gradient = Flat(tree_map(lambda leaf: np.full_like(leaf, np.nan), params))
    return loss_and_gradient(params, micro_batches, config, gradient, **options), flatten(gradient.tree)


def whole_batch(params, images, tokens, config):
    """Loss and gradient with no micro-batches at all, from the encoders and the loss themselves."""
    image_features, backward_image = encode_image(params, images, config, training=True)
    text_features, backward_text = encode_text(params, tokens, config)
    loss, backward = clip_loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_logit_scale = backward()
    return loss, flatten({"logit_scale": d_logit_scale, **backward_image(d_image), **backward_text(d_text)})


@pytest.mark.parametrize("sizes", [[7], [3, 3, 1], [1] * 7, [2, 5]])
@pytest.mark.parametrize("recompute", [False, True])
def test_micro_batches_give_the_gradient_of_the_whole_batch(images, tokens, sizes, recompute):
    params, pictures = parameters(VIT), images(VIT)
    loss, expected = whole_batch(params, pictures, tokens, VIT)
    result, gradient = step(params, cut(pictures, tokens, sizes), VIT, recompute=recompute)
    assert float(result["loss"]) == pytest.approx(float(loss), rel=1e-14)
    assert gradient.keys() == expected.keys() == flatten(params).keys()
    for name, g in gradient.items():
        assert np.abs(g - expected[name]).max() <= 1e-12 * max(1e-3, np.abs(expected[name]).max()), name
    assert result["image_features"].shape == result["text_features"].shape == (N, 6)
    assert same_bits(result["d_logit_scale"], gradient["logit_scale"])


def test_one_micro_batch_of_a_resnet_is_the_whole_batch(images, tokens):
    params, pictures = parameters(RESNET), images(RESNET)
    _, expected = whole_batch(params, pictures, tokens, RESNET)
    _, gradient = step(params, [(pictures, tokens)], RESNET)
    assert gradient.keys() == expected.keys()
    assert all(same_bits(gradient[name], expected[name]) for name in gradient)


def test_the_norms_statistics_are_averaged_over_micro_batches(images, tokens):
    params, pictures, sizes = parameters(RESNET), images(RESNET), [3, 4]
    _, gradient = step(params, cut(pictures, tokens, sizes), RESNET)
    alone = [step(params, [micro_batch], RESNET)[1] for micro_batch in cut(pictures, tokens, sizes)]
    names = [name for name in gradient if is_statistic(name)]
    assert len(names) == 2 * (3 + 4 * 4 + 3)  # the stem; four blocks that change shape; one not
    for name in names:
        assert np.allclose(gradient[name], (alone[0][name] + alone[1][name]) / 2, rtol=1e-13, atol=1e-15)
    x = pictures.transpose(0, 2, 3, 1)
    stem = [conv2d(part, **params["visual"]["conv1"], stride=2, padding=1)[0] for part in (x[:3], x[3:])]
    mean = sum(h.mean((0, 1, 2)) for h in stem) / 2
    var = sum(h.var((0, 1, 2), ddof=1) for h in stem) / 2  # PyTorch keeps the unbiased one
    bn = params["visual"]["bn1"]
    assert np.allclose(gradient["visual.bn1.running_mean"], bn["running_mean"] - mean)
    assert np.allclose(gradient["visual.bn1.running_var"], bn["running_var"] - var)


@CONFIGS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_on_any_number_of_threads_recomputed_or_not(images, tokens, config, dtype):
    params = parameters(config, dtype)
    micro_batches = cut(images(config).astype(dtype), tokens, [1, 1, 2, 2, 1])
    expected, expected_gradient = step(params, micro_batches, config)
    for threads, recompute in ((1, True), (2, False), (4, True)):
        with worker_threads(threads) as pool:
            result, gradient = step(params, micro_batches, config, map=pool.map, recompute=recompute)
        assert all(same_bits(result[name], expected[name]) for name in expected)
        assert all(same_bits(gradient[name], expected_gradient[name]) for name in expected_gradient)
    assert all(array.dtype == dtype for array in (*result.values(), *gradient.values()))


def test_recomputing_remembers_little():
    inputs, peaks = RandomInputs(0), {}
    micro_batches = [(inputs.images(64, VIT), inputs.tokens(64)) for _ in range(8)]
    for recompute in (False, True):
        tracemalloc.start()
        step(parameters(VIT), micro_batches, VIT, recompute=recompute)
        peaks[recompute] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[True] < peaks[False] / 2


def test_work_is_given_to_the_threads(images, tokens):
    """A `map` that is handed over is used for the micro-batches: each thread waits there until another has come."""
    meet, seen = threading.Barrier(2, timeout=20), set()

    with ThreadPoolExecutor(2) as pool:

        def mapping(f, items):
            items = list(items)

            def work(item):
                if len(items) == 4:  # two encoders, two micro-batches
                    meet.wait()
                    seen.add(threading.get_ident())
                return f(item)

            return pool.map(work, items)

        step(parameters(VIT), cut(images(VIT), tokens, [3, 4]), VIT, map=mapping)
    assert len(seen) == 2


@CONFIGS
@pytest.mark.parametrize("recompute", [False, True])
def test_nothing_given_is_written_to(images, tokens, config, recompute):
    params, pictures = tree_map(np.array, parameters(config)), images(config)
    for leaf in (*flatten(params).values(), pictures, tokens):
        leaf.flags.writeable = False
    step(params, cut(pictures, tokens, [3, 4]), config, recompute=recompute)


def test_another_loss(images, tokens):
    """The loss is an argument: twice the loss has twice the gradient."""

    def double(image_features, text_features, logit_scale):
        loss, backward = clip_loss(image_features, text_features, logit_scale)
        return 2 * loss, lambda: tuple(2 * d for d in backward())

    params, micro_batches = parameters(VIT), cut(images(VIT), tokens, [3, 4])
    result, gradient = step(params, micro_batches, VIT)
    doubled, gradient_doubled = step(params, micro_batches, VIT, loss=double)
    assert doubled["loss"] == 2 * result["loss"]
    assert all(np.allclose(gradient_doubled[name], 2 * gradient[name], rtol=1e-13, atol=1e-18) for name in gradient)


@pytest.mark.parametrize("sizes", [[7], [3, 3, 1], [2, 5]])
@pytest.mark.parametrize("recompute", [False, True])
def test_two_texts_of_each_image(inputs, images, sizes, recompute):
    """In micro-batches each image keeps its own two, one after the other."""
    params, pictures, texts = parameters(VIT), images(VIT), inputs.tokens(2 * N)

    def of_both(image_features, text_features, logit_scale):
        losses = [clip_loss(image_features, text_features[c::2].copy(), logit_scale) for c in (0, 1)]

        def backward():
            (a, b, c), (d, e, f) = (backward() for _, backward in losses)
            return a + d, np.stack([b, e], 1).reshape(2 * N, -1), c + f

        return losses[0][0] + losses[1][0], backward

    micro_batches = [
        (some, rows.reshape(-1, rows.shape[-1])) for some, rows in cut(pictures, texts.reshape(N, 2, -1), sizes)
    ]
    result, gradient = step(params, micro_batches, VIT, recompute=recompute, loss=of_both)
    alone = [step(params, cut(pictures, texts[c::2], [7]), VIT) for c in (0, 1)]
    assert result["loss"] == pytest.approx(sum(one["loss"] for one, _ in alone), rel=1e-13)
    assert result["text_features"].shape == (2 * N, result["image_features"].shape[1])
    for name, leaf in gradient.items():
        np.testing.assert_allclose(leaf, sum(one[name] for _, one in alone), rtol=1e-9, atol=1e-13, err_msg=name)


def test_what_is_no_step(images, tokens):
    params = parameters(VIT)
    pairs, gradient = [(images(VIT), tokens)], Flat(params)
    other = Flat(tree_map(lambda leaf: leaf.T.copy() if leaf.ndim == 2 else leaf, params))
    for micro_batches, into, said in (
        ([], gradient, "micro-batch 0 must be images"),
        ([*pairs, images(VIT)], gradient, "micro-batch 1 must be images"),
        ([(images(VIT)[1:], tokens)], gradient, "as many texts"),
        ([(images(VIT), tokens[:0])], gradient, "as many texts"),
        ([(images(VIT)[:0], tokens)], gradient, "as many texts"),
        ([(images(VIT)[:3], tokens[:6]), (images(VIT)[3:], tokens[3:])], gradient, "micro-batch 1 must be images"),
        (iter(pairs), gradient, "micro_batches is of type list_iterator; it must be a list"),
        (pairs, params, "gradient is a dict; it must be a Flat"),
        (pairs, other, "has another shape than the parameter"),
    ):
        with pytest.raises(ValueError, match=said):
            loss_and_gradient(params, micro_batches, VIT, into)
