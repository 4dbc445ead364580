"""Half precision on a card's arrays: layers, steps, and what is refused."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from on_card import problem
from runs import SMALL

from miniclip.conv import batch_norm
from miniclip.gpu import PRECISIONS, GradScaler, compute_dtype, half_encoders, precision
from miniclip.gpu.matmul import matmul
from miniclip.gradcheck.random_inputs import RESNET, VIT
from miniclip.layers import embedding, gelu, linear
from miniclip.optim import AdamW
from miniclip.train_step import loss_and_gradient
from miniclip.tree import Flat, flatten

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs `pip install ml_dtypes`.")
pytestmark = pytest.mark.double
halves = pytest.mark.parametrize(
    "dtype, bits", [(np.float16, 11), (ml_dtypes.bfloat16, 8)], ids=["float16", "bfloat16"]
)
models = pytest.mark.parametrize("config", [VIT, RESNET, VIT | {"quick_gelu": False}], ids=["ViT", "ResNet", "GELU"])


def gradient_of(params, micro_batches, config, **options):
    """What a step returns, and {name: gradient} on the host. The buffer starts as NaN, which must not be seen."""
    gradient = params.like(params.vector * np.float32(np.nan))
    result = loss_and_gradient(params.tree, micro_batches, config, gradient, **options)
    vector = gradient.vector.get() if hasattr(gradient.vector, "get") else gradient.vector
    return result, flatten(Flat(gradient.tree, vector).tree)


def distance(a, b):
    """The length of what two dicts of arrays differ by, as a part of the second's."""
    a, b = (np.concatenate([leaf.ravel() for leaf in leaves.values()]) for leaves in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ------------------------------------------------------------------------------------------ a step


@models
@halves
def test_the_gradient_is_that_of_single_precision_but_for_rounding(xp, config, dtype, bits):
    exact, expected = gradient_of(*problem(config), config)
    params, micro_batches = problem(config, "gpu")
    before, scale = params.vector.get(), GradScaler(xp, 64.0).scale if dtype == np.float16 else None
    result, found = gradient_of(params, micro_batches, config, encoders_of=half_encoders(dtype, scale))
    for array in result.values():
        assert type(array) is xp.ndarray and array.dtype == np.float32
    assert (params.vector.get() == before).all()
    # It was rounded, and not by more than a deep ReLU network does.
    assert 2.0**-bits / 8 < distance(found, expected) < 2.0**-bits * 120
    assert float(result["loss"]) == pytest.approx(float(exact["loss"]), rel=2.0**-bits * 30)


@halves
def test_a_step_launches_the_same_kernels_and_products_as_in_float32(card, cupy, dtype, bits):
    """A number that became float32 in silence sends what follows to the plain code, which is right and slow."""
    params, micro_batches = problem(VIT, "gpu")
    launched = []
    for options in ({}, {"encoders_of": half_encoders(dtype)}):
        card.kernels.clear()
        card.products.clear()
        gradient_of(params, micro_batches, VIT, **options)
        names = [name.partition("<")[0] for name, *_ in card.kernels]
        launched.append((names, [sizes[:4] for sizes in card.products]))
    assert launched[0] == launched[1] and "attention_weights" in launched[0][0]


def test_the_loss_scale_leaves_no_trace(card, cupy):
    """A power of two changes no digit of a bfloat16. Averages are no gradients: not scaled, and not rounded."""
    params, micro_batches = problem(RESNET, "gpu")
    params.tree["visual"]["bn1"]["running_mean"][:] = 1.238
    scale, mean = cupy.full((), 1024, np.float32), "visual.bn1.running_mean"
    _, exact = gradient_of(params, micro_batches, RESNET)
    plain, scaled = (
        gradient_of(params, micro_batches, RESNET, encoders_of=half_encoders(ml_dtypes.bfloat16, by))[1]
        for by in (None, scale)
    )
    for name, leaf in plain.items():
        assert np.abs(leaf - scaled[name]).max() <= 1e-6 * np.abs(leaf).max() + 1e-30, name
    assert 0 < np.abs(plain[mean] - exact[mean]).max() < 2e-3  # the batch's mean is rounded; 1.238 is not


def test_gradients_that_vanish_in_float16_are_kept_by_the_scale(xp):
    params, micro_batches = problem(VIT, "gpu")
    params.tree["logit_scale"][...] = np.log(1e-7)  # the features' gradients shrink with it, below what float16 has
    _, exact = gradient_of(params, micro_batches, VIT)
    error = []
    for scale in (None, xp.full((), 2.0**20, np.float32)):
        _, found = gradient_of(params, micro_batches, VIT, encoders_of=half_encoders(np.float16, scale))
        error.append(distance(*({"": leaves["visual.conv1.weight"]} for leaves in (found, exact))))
    assert error[0] > 0.3 and error[1] < 0.05


@models
@halves
def test_a_step_waits_for_nothing(card, cupy, config, dtype, bits):
    params, micro_batches = problem(config, "gpu")
    gradient, optimizer, scaler = params.like(cupy.empty_like(params.vector)), AdamW(params), GradScaler(cupy)
    with card.counting() as counts:
        encoders = half_encoders(dtype, scaler.scale)
        loss_and_gradient(params.tree, micro_batches, config, gradient, encoders_of=encoders)
        norm = optimizer.gradient_norm(gradient)
        scaler.update(norm)
        optimizer.step(gradient, 1e-3, norm=norm)
    assert counts.syncs == [] and counts.launches > 100


# ------------------------------------------------------------------------------------------ layers


@halves
def test_layers_keep_a_half_type(xp, normal, dtype, bits):
    x, weight, bias, dy = (xp.asarray(normal(*shape).astype(dtype)) for shape in ((6, 5), (4, 5), (4,), (6, 4)))
    y, backward = linear(x, weight, bias)
    dx, grads = backward(dy)
    out, gelu_ = gelu(x)
    assert {array.dtype for array in (y, dx, *grads.values(), out, gelu_(x))} == {np.dtype(dtype)}
    exact = linear(*(array.get().astype(np.float64) for array in (x, weight, bias)))[0]
    assert np.abs(y.get().astype(np.float64) - exact).max() < 2.0**-bits * 4 * np.abs(exact).max()


def test_batch_norm_adds_up_half_numbers_as_float32(xp, normal):
    x, dy = (normal(32, 8, 8, 3) * 100 + 400).astype(np.float16), normal(32, 8, 8, 3).astype(np.float16)
    p = [normal(3).astype(np.float16), normal(3).astype(np.float16), np.zeros(3, np.float32), np.ones(3, np.float32)]
    y, backward = batch_norm(*map(xp.asarray, (x, *p)), training=True)  # the squares of x are beyond float16
    dx, grads = backward(xp.asarray(dy))
    expected, backward_single = batch_norm(*(a.astype(np.float32) for a in (x, *p)), training=True)
    assert y.dtype == dx.dtype == np.float16 and grads["weight"].dtype == np.float32
    for found, single in (y, expected), (dx, backward_single(dy.astype(np.float32))[0]):
        np.testing.assert_allclose(found.get().astype(float), single, rtol=2.0**-11, atol=1e-5)


@halves
def test_rows_of_an_embedding_are_added_up_in_float32(xp, dtype, bits):
    """600 rows of 1: in bfloat16 the sum of one after another stays at 256. CuPy's add.at has no bfloat16 at all."""
    weight = xp.zeros((3, 2), dtype)
    grads = embedding(np.array([1] * 600 + [2]), weight)[1](xp.asarray(np.ones((601, 2), dtype)))
    assert grads["weight"].dtype == dtype
    assert grads["weight"].get().astype(np.float32).tolist() == [[0, 0], [600, 600], [1, 1]]


# ------------------------------------------------------------------------------------------ the scale, the precisions


def test_the_scale_doubles_after_patience_and_halves_after_a_step_too_large(xp):
    scaler, seen = GradScaler(xp, scale=8.0, patience=3), []
    for norm in (1, 1, 1, 1, np.inf, 1, np.nan, 1, 1, 1):
        scaler.update(xp.full((), norm, np.float32))
        seen.append(float(scaler.scale))
    assert seen == [8, 8, 16, 16, 8, 8, 4, 4, 4, 8]
    again = GradScaler(xp, patience=3)
    again.restore({name: value.copy() for name, value in scaler.state().items()})
    for _ in range(3):
        scaler.update(xp.ones((), np.float32))
        again.update(xp.ones((), np.float32))
    assert float(scaler.scale) == float(again.scale) == 16 and scaler.scale.dtype == np.float32


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_precision_is_a_dtype_and_how_products_are_rounded(xp, normal, name):
    with precision(name) as dtype:
        assert dtype == compute_dtype(name) == (np.float32 if name == "tf32" else np.dtype(name))
        a, b = (xp.asarray(normal(2, 256, 256).astype(dtype)) for _ in range(2))
        stack, flat = matmul(a, b).get(), (a[0] @ b[0]).get()
    a, b = (x.get().astype(np.float64) for x in (a, b))
    for y, exact in (stack, a @ b), (flat, a[0] @ b[0]):
        error = abs(y.astype(np.float64) - exact).max() / abs(exact).max()
        assert (error > 1e-5) == (name != "float32") and error < 1e-2


def test_what_was_set_before_is_set_again(card, cupy):
    get, set_, types = cupy._core.get_compute_type, cupy._core.set_compute_type, cupy._core._routines_linalg
    set_(np.float32, types.COMPUTE_TYPE_TF32)
    with pytest.raises(RuntimeError), precision("float32"):
        assert get(np.float32) == types.COMPUTE_TYPE_DEFAULT
        raise RuntimeError
    assert get(np.float32) == types.COMPUTE_TYPE_TF32


def test_what_is_not_possible_is_refused_in_a_sentence(card, monkeypatch):
    for ask in (compute_dtype, lambda name: replace(SMALL, precision=name), lambda name: precision(name).__enter__()):
        with pytest.raises(ValueError, match="there is no precision 'fp8'; choose one of float32, tf32, bfloat16, "):
            ask("fp8")
    for name in PRECISIONS[1:]:
        with pytest.raises(ValueError, match=f"precision '{name}' gains nothing on the processor"):
            compute_dtype(name, "cpu")
    with pytest.raises(ValueError, match="device is 'tpu'"), precision("float32", "tpu"):
        pass
    card.capability = "75"
    for name in ("tf32", "bfloat16"):
        with pytest.raises(ValueError, match="needs a graphics card of compute capability 8.0"), precision(name):
            pass
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="needs the package ml_dtypes"):
        compute_dtype("bfloat16")
    assert [compute_dtype(name) for name in PRECISIONS if name != "bfloat16"] == [np.float32, np.float32, np.float16]
