import numpy as np
import pytest
from ml_dtypes import bfloat16

from miniclip.conv import batch_norm
from miniclip.gpu.mixed_precision import GradScaler, half_encoders
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.optim import AdamW
from miniclip.train_step import is_statistic, loss_and_gradient
from miniclip.tree import Flat, flatten, tree_map


def single(tree):
    return Flat(tree_map(lambda leaf: leaf.astype(np.float32), tree))


def problem(config):
    draw = RandomInputs(3)
    params = single(draw.parameters(config))
    return params, [(draw.images(n, config).astype(np.float32), draw.tokens(n)) for n in (4, 3)]


def gradient_of(params, shards, config, *encoders):
    """One step -> what it returns, and {name: gradient}. The buffer starts as noise that must not be seen."""
    gradient = params.like(np.full_like(params.vector, np.nan))
    options = {"encoders_of": encoders[0]} if encoders else {}
    return loss_and_gradient(params.tree, shards, config, gradient, **options), gradient


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
@pytest.mark.parametrize("dtype, bits", [(np.float16, 11), (bfloat16, 8)])
def test_the_gradient_is_that_of_single_precision_but_for_rounding(config, dtype, bits):
    params, shards = problem(config)
    exact, expected = gradient_of(params, shards, config)
    before = params.vector.copy()
    result, gradient = gradient_of(params, shards, config, half_encoders(dtype))
    assert result["loss"].dtype == gradient.vector.dtype == result["image_features"].dtype == np.float32
    assert (params.vector == before).all()
    error = np.linalg.norm(gradient.vector - expected.vector) / np.linalg.norm(expected.vector)
    assert 2.0**-bits / 8 < error < 2.0**-bits * 120  # it was rounded, and not by more than a deep ReLU network does
    assert float(result["loss"]) == pytest.approx(float(exact["loss"]), rel=2.0**-bits * 30)


def test_the_loss_scale_leaves_no_trace():
    params, shards = problem(RESNET)
    scale = np.float32(1024)
    _, plain = gradient_of(params, shards, RESNET, half_encoders(bfloat16))
    _, scaled = gradient_of(params, shards, RESNET, half_encoders(bfloat16, scale))
    for (name, one), other in zip(flatten(plain.tree).items(), flatten(scaled.tree).values()):
        # A power of two changes no digit of a bfloat16. Averages are no gradients and are not scaled.
        assert np.abs(one - other).max() <= 1e-6 * np.abs(one).max() + 1e-30, name
    assert any(is_statistic(name) for name in flatten(params.tree))


def test_gradients_that_vanish_in_float16_are_kept_by_the_scale():
    params, shards = problem(VIT)
    params.tree["logit_scale"][...] = np.log(1e-7)  # d features shrink with it, below what float16 has
    _, exact = gradient_of(params, shards, VIT)
    _, lost = gradient_of(params, shards, VIT, half_encoders(np.float16))
    _, kept = gradient_of(params, shards, VIT, half_encoders(np.float16, np.float32(2.0**20)))
    name = "visual.conv1.weight"
    exact, lost, kept = (flatten(g.tree)[name] for g in (exact, lost, kept))
    assert np.linalg.norm(lost - exact) > 0.3 * np.linalg.norm(exact)
    assert np.linalg.norm(kept - exact) < 0.05 * np.linalg.norm(exact)


def test_the_averages_of_the_norms_are_not_rounded():
    params, shards = problem(RESNET)
    params.tree["visual"]["bn1"]["running_mean"][:] = 1.2345678
    _, gradient = gradient_of(params, shards, RESNET, half_encoders(bfloat16))
    _, exact = gradient_of(params, shards, RESNET)
    one, other = (g.tree["visual"]["bn1"]["running_mean"] for g in (gradient, exact))
    assert np.abs(one - other).max() < 2e-3 and not (one == other).all()  # the batch's mean is; 1.2345678 is not


def test_batch_norm_adds_up_half_numbers_as_float32(normal):
    x = (normal(32, 8, 8, 3) * 100 + 400).astype(np.float16)  # their squares are beyond float16
    p = [normal(3).astype(np.float16), normal(3).astype(np.float16), np.zeros(3, np.float32), np.ones(3, np.float32)]
    y, backward = batch_norm(x, *p, training=True)
    expected, backward_single = batch_norm(*(a.astype(np.float32) for a in (x, *p)), training=True)
    dy = normal(*x.shape).astype(np.float16)
    dx, grads = backward(dy)
    assert y.dtype == dx.dtype == np.float16 and grads["weight"].dtype == np.float32
    assert (y == expected.astype(np.float16)).all()
    assert (dx == backward_single(dy.astype(np.float32))[0].astype(np.float16)).all()


def test_the_scale_doubles_after_patience_and_halves_after_a_step_too_large():
    scale, seen = GradScaler(scale=8.0, patience=3), []
    for norm in (1, 1, 1, 1, np.inf, 1, np.nan, 1, 1, 1):
        scale.update(np.float32(norm))
        seen.append(float(scale.scale))
    assert seen == [8, 8, 16, 16, 8, 8, 4, 4, 4, 8]
    again = GradScaler(patience=3)
    again.restore({name: value.copy() for name, value in scale.state().items()})
    for norm in (1, 1, 1):
        scale.update(np.float32(norm))
        again.update(np.float32(norm))
    assert float(scale.scale) == float(again.scale) == 16 and scale.scale.dtype == np.float32


def test_training_in_float16_learns_and_outlives_an_overflow():
    params, shards = problem(VIT)
    shards = shards[:1]
    scale, optimizer = GradScaler(scale=2.0**40), AdamW(params)  # far too large at first
    gradient, losses = params.like(np.empty_like(params.vector)), []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(70):
            result = loss_and_gradient(
                params.tree, shards, VIT, gradient, encoders_of=half_encoders(np.float16, scale.scale)
            )
            norm = optimizer.step(gradient, 5e-3)
            scale.update(norm)
            losses.append(float(result["loss"]))
    assert losses[1] == losses[0] and float(scale.scale) < 2.0**36
    assert losses[-1] < 0.5 * losses[0]
