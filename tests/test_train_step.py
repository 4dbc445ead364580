import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.conv import conv2d
from miniclip.gradcheck.check import check
from miniclip.gradcheck.contract import same_bits
from miniclip.loss import clip_loss
from miniclip.model import encode_image, encode_text, initialize
from miniclip.train_step import is_statistic, loss_and_gradient
from miniclip.tree import Flat, flatten, tree_map

TEXT = {"context_length": 5, "vocab_size": 12, "width": 8, "heads": 2, "layers": 1}
VIT = {
    "embed_dim": 6,
    "quick_gelu": True,
    "text_cfg": TEXT,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4},
}
RESNET = {
    "embed_dim": 6,
    "quick_gelu": True,
    "text_cfg": TEXT,
    "vision_cfg": {"image_size": 32, "layers": [1, 2, 1, 1], "width": 4},
}
N = 7


@pytest.fixture
def images(normal):
    return lambda config: normal(N, 3, *[config["vision_cfg"]["image_size"]] * 2)


@pytest.fixture
def tokens(rng):
    rows = rng.integers(1, 10, (N, 5))
    rows[:, 0] = 10
    for row, end in zip(rows, rng.integers(1, 5, N)):
        row[end], row[end + 1 :] = 11, 0
    return rows


def parameters(config, dtype=np.float64):
    """Parameters at a point where nothing is 0 or 1: there a wrong norm or bias would not be seen."""
    rng = np.random.default_rng(5)
    return tree_map(lambda leaf: np.array(leaf + rng.uniform(0.1, 0.3, leaf.shape), dtype), initialize(config, 3))


def cut(images, tokens, sizes):
    ends = np.cumsum(sizes)
    assert ends[-1] == len(images)
    return [(images[end - n : end], tokens[end - n : end]) for n, end in zip(sizes, ends)]


def step(params, shards, config, **options):
    """One step -> what it returns, and {name: gradient}. The buffer starts as noise that must not be seen."""
    gradient = Flat(tree_map(lambda leaf: np.full_like(leaf, np.nan), params))
    return loss_and_gradient(params, shards, config, gradient, **options), flatten(gradient.tree)


def whole_batch(params, images, tokens, config):
    """Loss and gradient with no shards at all, from the encoders and the loss themselves."""
    image_features, backward_image = encode_image(params, images, config, training=True)
    text_features, backward_text = encode_text(params, tokens, config)
    loss, backward = clip_loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_logit_scale = backward()
    return loss, flatten({"logit_scale": d_logit_scale, **backward_image(d_image), **backward_text(d_text)})


@pytest.mark.parametrize("sizes", [[7], [3, 3, 1], [1] * 7, [2, 5]])
@pytest.mark.parametrize("recompute", [False, True])
def test_shards_give_the_gradient_of_the_whole_batch(images, tokens, sizes, recompute):
    params, pictures = parameters(VIT), images(VIT)
    loss, expected = whole_batch(params, pictures, tokens, VIT)
    result, gradient = step(params, cut(pictures, tokens, sizes), VIT, recompute=recompute)
    assert float(result["loss"]) == pytest.approx(float(loss), rel=1e-14)
    assert gradient.keys() == expected.keys() == flatten(params).keys()
    for name, g in gradient.items():
        assert np.abs(g - expected[name]).max() <= 1e-12 * max(1e-3, np.abs(expected[name]).max()), name
    assert result["image_features"].shape == result["text_features"].shape == (N, 6)
    assert same_bits(np.asarray(result["d_logit_scale"]), gradient["logit_scale"])


def test_one_shard_of_a_resnet_is_the_whole_batch(images, tokens):
    params, pictures = parameters(RESNET), images(RESNET)
    _, expected = whole_batch(params, pictures, tokens, RESNET)
    _, gradient = step(params, [(pictures, tokens)], RESNET)
    assert gradient.keys() == expected.keys()
    assert all(same_bits(gradient[name], np.asarray(expected[name])) for name in gradient)


@pytest.mark.parametrize(
    "config, method, entries",
    [
        (VIT, "complex", 2),
        (VIT, "central", 1),
        (RESNET, "adjoint", 0),
        pytest.param(RESNET, "complex", 2, marks=pytest.mark.slow),
        pytest.param(RESNET, "central", 2, marks=pytest.mark.slow),
    ],
)
def test_every_parameter_of_a_whole_step(images, tokens, config, method, entries):
    def whole_step(params, pictures, config, sizes):
        gradient = Flat(tree_map(np.zeros_like, params))
        result = loss_and_gradient(params, cut(pictures, tokens[:4], sizes), config, gradient)
        return result["loss"], lambda: (gradient.tree,)

    report = check(
        whole_step,
        parameters(config),
        images(config)[:4],
        config,
        [2, 2],
        method=method,
        exclude=["pictures", "*running_*"],
        entries=entries,
        tolerance=1e-6 if method == "central" else 1e-11,
    )
    assert report.ok, f"\n{report}"
    assert {row.name for row in report.rows} == {
        f"params.{name}" for name in flatten(parameters(config)) if not is_statistic(name)
    }


def test_the_norms_statistics_are_averaged_over_shards(images, tokens):
    params, pictures, sizes = parameters(RESNET), images(RESNET), [3, 4]
    _, gradient = step(params, cut(pictures, tokens, sizes), RESNET)
    alone = [step(params, [shard], RESNET)[1] for shard in cut(pictures, tokens, sizes)]
    names = [name for name in gradient if is_statistic(name)]
    assert len(names) == 2 * (3 + 4 * 4 + 3)  # the stem; four blocks that change shape; one not
    for name in names:
        assert np.allclose(gradient[name], (alone[0][name] + alone[1][name]) / 2, rtol=1e-13, atol=1e-15)
    x = pictures.transpose(0, 2, 3, 1)
    stem = [conv2d(shard, **params["visual"]["conv1"], stride=2, padding=1)[0] for shard in (x[:3], x[3:])]
    mean = sum(h.mean((0, 1, 2)) for h in stem) / 2
    var = sum(h.var((0, 1, 2), ddof=1) for h in stem) / 2  # PyTorch keeps the unbiased one
    bn = params["visual"]["bn1"]
    assert np.allclose(gradient["visual.bn1.running_mean"], bn["running_mean"] - mean)
    assert np.allclose(gradient["visual.bn1.running_var"], bn["running_var"] - var)


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recomputing_gives_the_same_bits(images, tokens, config, dtype):
    params, shards = parameters(config, dtype), cut(images(config).astype(dtype), tokens, [3, 4])
    result, gradient = step(params, shards, config)
    again, gradient_again = step(params, shards, config, recompute=True)
    assert all(same_bits(np.asarray(result[name]), np.asarray(again[name])) for name in result)
    assert all(same_bits(gradient[name], gradient_again[name]) for name in gradient)
    assert result["loss"].dtype == result["image_features"].dtype == result["d_logit_scale"].dtype == dtype
    assert all(g.dtype == dtype for g in gradient.values())


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_same_bits_on_any_number_of_threads(images, tokens, config, recompute):
    params = parameters(config, np.float32)
    shards = cut(images(config).astype(np.float32), tokens, [1, 1, 2, 2, 1])
    results = []
    for threads in (1, 2, 4):
        with worker_threads(threads) as pool:
            results.append(step(params, shards, config, map=pool.map, recompute=recompute))
    for result, gradient in results[1:]:
        assert all(same_bits(np.asarray(result[name]), np.asarray(results[0][0][name])) for name in result)
        assert all(same_bits(gradient[name], results[0][1][name]) for name in gradient)


def test_work_is_given_to_the_threads(images, tokens):
    """A `map` that is handed over is used for the shards: each thread waits there until another has come."""
    meet, seen = threading.Barrier(2, timeout=20), set()

    with ThreadPoolExecutor(2) as pool:

        def mapping(f, items):
            items = list(items)

            def work(item):
                if len(items) == 4:  # two encoders, two shards
                    meet.wait()
                    seen.add(threading.get_ident())
                return f(item)

            return pool.map(work, items)

        step(parameters(VIT), cut(images(VIT), tokens, [3, 4]), VIT, map=mapping)
    assert len(seen) == 2


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
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

    params, shards = parameters(VIT), cut(images(VIT), tokens, [3, 4])
    result, gradient = step(params, shards, VIT)
    doubled, gradient_doubled = step(params, shards, VIT, loss=double)
    assert doubled["loss"] == 2 * result["loss"]
    assert all(np.allclose(gradient_doubled[name], 2 * gradient[name], rtol=1e-13, atol=1e-18) for name in gradient)
