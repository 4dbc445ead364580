"""Half precision on CuPy arrays: steps, runs and what CuPy 14 has for bfloat16, on a double, not a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from cupy_double import cupy_double
from test_cli import photos, refused  # noqa: F401
from test_loop import SMALL, run_to_the_end, shapes, some, without_timing  # noqa: F401
from test_mixed_precision import gradient_of, problem
from test_train_on_cupy import smallest  # noqa: F401

from miniclip.gpu.matmul import precision
from miniclip.gpu.mixed_precision import GradScaler, half_encoders
from miniclip.gradcheck.random_inputs import RESNET, VIT
from miniclip.layers import embedding, gelu, linear
from miniclip.optim import AdamW
from miniclip.train_step import loss_and_gradient
from miniclip.training.loop import Run
from miniclip.tree import Flat, flatten, to_device

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs `pip install ml_dtypes`.")
HALVES = pytest.mark.parametrize(
    "dtype, bits", [(np.float16, 11), (ml_dtypes.bfloat16, 8)], ids=["float16", "bfloat16"]
)
MODELS = pytest.mark.parametrize("config", [VIT, RESNET, VIT | {"quick_gelu": False}], ids=["ViT", "ResNet", "GELU"])
EIGHT = replace(
    SMALL,
    steps=24,
    batch=8,
    shard=4,
    learning_rate=1e-3,
    warmup=1,
    weight_decay=0.0,
    mix=0.0,
    strength=0.0,
    plain_names=1.0,
    average=0.9,
    log_every=8,
    checkpoint_every=8,
)


def on_card(config):
    """The problem of test_half.py, on the card: parameters, shards."""
    params, shards = problem(config)
    return Flat(to_device(params.tree, "gpu")), [(to_device(images, "gpu"), tokens) for images, tokens in shards]


# ------------------------------------------------------------------------------------------ a step


@MODELS
@HALVES
def test_the_gradient_is_that_of_single_precision_but_for_rounding(cupy, config, dtype, bits):
    exact, expected = gradient_of(*problem(config), config)
    params, shards = on_card(config)
    before, scale = params.vector.get(), GradScaler(cupy, 64.0) if dtype == np.float16 else None
    gradient = params.like(params.vector * np.float32(np.nan))
    result = loss_and_gradient(
        params.tree, shards, config, gradient, encoders_of=half_encoders(dtype, scale and scale.scale)
    )
    for array in (result["loss"], result["image_features"], result["text_features"], gradient.vector):
        assert type(array) is type(params.vector) and array.dtype == np.float32
    vector = gradient.vector.get()
    assert np.isfinite(vector).all() and (params.vector.get() == before).all()
    error = np.linalg.norm(vector - expected.vector) / np.linalg.norm(expected.vector)
    assert 2.0**-bits / 8 < error < 2.0**-bits * 120
    assert float(result["loss"]) == pytest.approx(float(exact["loss"]), rel=2.0**-bits * 30)


@MODELS
@HALVES
def test_a_step_waits_for_nothing(card, cupy, config, dtype, bits):
    params, shards = on_card(config)
    gradient, optimizer, scale = params.like(cupy.empty_like(params.vector)), AdamW(params), GradScaler(cupy)
    for _ in range(2):  # the first compiles
        with card.counting() as counts:
            loss_and_gradient(params.tree, shards, config, gradient, encoders_of=half_encoders(dtype, scale.scale))
            norm = optimizer.gradient_norm(gradient)
            scale.update(norm)
            optimizer.step(gradient, 1e-3, norm=norm)
        assert counts.syncs == [] and counts.launches > 100


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_step_whose_norm_is_not_finite_is_left_out(cupy, bad):
    params, shards = on_card(VIT)
    optimizer, scale = AdamW(params, average_decay=0.9), GradScaler(cupy)
    gradient = params.like(cupy.ones_like(params.vector))
    gradient.vector[7] = bad
    before = {name: vector.get() for name, vector in optimizer.state().items() if name != "count"}
    norm = optimizer.step(gradient, 1e-2)
    scale.update(norm)
    assert float(scale.scale) == 2.0**14 and not np.isfinite(float(norm)) and optimizer.count == 1
    assert all((optimizer.state()[name].get() == array).all() for name, array in before.items())
    gradient.vector[7] = 1
    scale.update(optimizer.step(gradient, 1e-2))
    assert float(scale.scale) == 2.0**14 and not (params.vector.get() == before["params"]).any()


@HALVES
def test_layers_keep_a_half_type(cupy, normal, dtype, bits):
    x, weight, bias, dy = (cupy.asarray(normal(*shape).astype(dtype)) for shape in ((6, 5), (4, 5), (4,), (6, 4)))
    y, backward = linear(x, weight, bias)
    dx, grads = backward(dy)
    out, gelu_ = gelu(x)
    assert {array.dtype for array in (y, dx, *grads.values(), out, gelu_(x))} == {np.dtype(dtype)}
    exact = linear(*(array.get().astype(np.float64) for array in (x, weight, bias)))[0]
    assert np.abs(y.get().astype(np.float64) - exact).max() < 2.0**-bits * 4 * np.abs(exact).max()


@HALVES
def test_rows_of_an_embedding_are_added_up_in_float32(cupy, dtype, bits):
    """600 rows of 1: in bfloat16 the sum of one after another stays at 256. CuPy's add.at has no bfloat16 at all."""
    weight = cupy.zeros((3, 2), dtype)
    grads = embedding(np.array([1] * 600 + [2]), weight)[1](cupy.ones((601, 2), dtype))
    assert grads["weight"].dtype == dtype
    assert grads["weight"].get().astype(np.float32).tolist() == [[0, 0], [600, 600], [1, 1]]


# ------------------------------------------------------------------------------------------ a run


def train(shapes, out, name, recipe=EIGHT, **options):  # noqa: F811
    return run_to_the_end((some(shapes[0], 8),), out, replace(recipe, precision=name), device="gpu", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf32", "bfloat16", "float16"])
def test_a_run_learns_and_goes_on_to_the_same_bits(shapes, tmp_path, card, cupy, monkeypatch, name):  # noqa: F811
    linalg, seen, advance = cupy._core._routines_linalg, [], Run.advance
    cupy._core.set_compute_type(np.float32, linalg.COMPUTE_TYPE_PEDANTIC)

    def watched(run, *args):
        seen.append(cupy._core.get_compute_type(np.float32))
        with card.counting() as counts:
            advance(run, *args)
        assert all("in the thread prefetch" in wait for wait in counts.syncs)

    monkeypatch.setattr(Run, "advance", watched)
    expected = train(shapes, tmp_path / "once", name)
    assert cupy._core.get_compute_type(np.float32) == linalg.COMPUTE_TYPE_PEDANTIC
    assert seen == [linalg.COMPUTE_TYPE_TF32 if name == "tf32" else linalg.COMPUTE_TYPE_DEFAULT] * EIGHT.steps
    losses = [row["loss"] for row in expected]
    assert len(losses) == 3 and losses[2] < 0.7 * losses[0]

    def until_the_twelfth(run, *args):
        if run.step == 11:
            raise KeyboardInterrupt
        advance(run, *args)

    monkeypatch.setattr(Run, "advance", until_the_twelfth)
    with pytest.raises(KeyboardInterrupt):
        train(shapes, tmp_path / "again", name)
    assert cupy._core.get_compute_type(np.float32) == linalg.COMPUTE_TYPE_PEDANTIC
    monkeypatch.setattr(Run, "advance", advance)
    assert without_timing(train(shapes, tmp_path / "again", name, resume=True)) == without_timing(expected)
    for file in ("last.safetensors", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()


def test_another_precision_is_another_run_of_about_the_same_numbers(shapes, tmp_path, card):  # noqa: F811
    short = replace(EIGHT, steps=1, log_every=1)
    losses = {
        name: train(shapes, tmp_path / name, name, short)[0]["loss"]
        for name in ("float32", "tf32", "bfloat16", "float16")
    }
    assert len(set(losses.values())) == 4
    assert all(loss == pytest.approx(losses["float32"], rel=0.05) for loss in losses.values())
    with pytest.raises(ValueError, match="is of another run: precision differ"):
        train(shapes, tmp_path / "tf32", "float32", short, resume=True)


@pytest.mark.slow
def test_float16_outlives_an_overflow(shapes, tmp_path, card, monkeypatch):  # noqa: F811
    start, scales, advance = Run.__init__, [], Run.advance

    def too_large(run, *args, **options):
        start(run, *args, **options)
        run.loss_scale.scale[...] = 2.0**24

    def watched(run, *args):
        before = run.params.vector.get()
        advance(run, *args)
        scales.append(float(run.loss_scale.scale))
        changed.append(not (run.params.vector.get() == before).all())

    changed = []
    monkeypatch.setattr(Run, "__init__", too_large)
    monkeypatch.setattr(Run, "advance", watched)
    rows = train(shapes, tmp_path, "float16", replace(EIGHT, log_every=12))
    left_out = changed.index(True)
    assert 0 < left_out < 12 and scales[:left_out] == [2.0 ** (23 - i) for i in range(left_out)]
    assert all(np.isfinite(row["loss"]) for row in rows) and rows[-1]["loss"] < rows[0]["loss"]


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", ["tf32", "bfloat16", "float16"])
def test_on_the_processor_the_command_line_refuses(photos, tmp_path, capsys, name):  # noqa: F811
    said = refused(
        capsys,
        "train",
        "--data",
        photos,
        "--out",
        tmp_path / "out",
        "--preset",
        "shapes",
        "--steps",
        1,
        "--precision",
        name,
        "--device",
        "cpu",
    )
    assert f"precision '{name}'" in said and "processor" in said and not (tmp_path / "out").exists()


def test_a_precision_that_there_is_not(card):
    with pytest.raises(ValueError, match="there is no precision 'float8'; choose one of float32, tf32, bfloat16, "):
        replace(EIGHT, precision="float8")
    with pytest.raises(ValueError, match="there is no precision 'float8'"), precision("float8"):
        pass
    with pytest.raises(ValueError, match="device is 'tpu'"), precision("float32", "tpu"):
        pass


def test_a_card_that_has_no_bfloat16(shapes, tmp_path):  # noqa: F811
    with cupy_double(capability="75"), pytest.raises(ValueError, match="'bfloat16' needs a graphics card of compute"):
        train(shapes, tmp_path / "out", "bfloat16")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ what CuPy 14 has of it


def test_bfloat16_as_cupy_has_it(cupy):
    """Where CuPy's list of types has no bfloat16 the answer is float32, in silence; a Python float makes it so too."""
    x = cupy.ones((2, 3), ml_dtypes.bfloat16)
    same = [
        x + x,
        x * 2,
        -x,
        cupy.maximum(x, 0),
        x @ x.T,
        x[0] @ x[0],
        x[None] @ x.T[None],
        x.sum(0),
        x.mean(1),
        x.max(),
        cupy.concatenate([x, x]),
        cupy.sqrt(x),
        x * (x > 0),
        x / 2,
        cupy.triu(x),
    ]
    assert {str(array.dtype) for array in same} == {"bfloat16"}
    single = [
        x * 0.5,
        cupy.where(x > 0, x, x),
        cupy.clip(x, 0, 1),
        x + x.astype(np.float32),
        x @ x.T.astype(np.float32),
        x * np.float32(2),
        x + x.astype(np.float16),
    ]
    assert {str(array.dtype) for array in single} == {"float32"}
    x *= 0.5  # in place it stays what it is
    assert x.dtype == ml_dtypes.bfloat16 and float(x[0, 0]) == 0.5
    with pytest.raises(TypeError, match="scatter_add only supports"):
        cupy.add.at(x, cupy.asarray([0, 0]), x[:2])


def test_a_product_of_bfloat16_is_rounded_once(cupy):
    """Summed in float32: in bfloat16, 1 more than 256 would be 256."""
    one = cupy.ones((1, 500), ml_dtypes.bfloat16)
    assert float((one @ cupy.ones((500, 2), ml_dtypes.bfloat16))[0, 0]) == 500


def test_tf32_is_seen_in_flat_products_alone(cupy):
    x = cupy.full((2, 2), 1 + 2.0**-12, np.float32)
    with precision("tf32"):
        assert float((x @ cupy.eye(2, dtype=np.float32))[0, 0]) == 1
        assert float((x[None] @ cupy.eye(2, dtype=np.float32)[None])[0, 0, 0]) == np.float32(1 + 2.0**-12)
    assert float((x @ cupy.eye(2, dtype=np.float32))[0, 0]) == np.float32(1 + 2.0**-12)


def test_all_of_a_gradient_is_written(cupy):
    params, shards = on_card(RESNET)
    gradient = params.like(cupy.empty_like(params.vector))
    loss_and_gradient(params.tree, shards, RESNET, gradient, encoders_of=half_encoders(np.dtype(ml_dtypes.bfloat16)))
    assert all(np.isfinite(leaf.get()).all() for leaf in flatten(gradient.tree).values())
