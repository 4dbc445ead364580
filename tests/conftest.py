"""What all tests share: seeded numbers, data, a double of a graphics card, and `prove`, which every layer must pass."""

import inspect
import os

import numpy as np
import pytest
from commands import COLOURS, draw, python
from threadpoolctl import threadpool_limits

from miniclip.data import shapes_data
from miniclip.gpu import register
from miniclip.gradcheck import check
from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.random_inputs import RandomInputs
from miniclip.tree import flatten, tree_map

threadpool_limits(1)  # matrices are small here: one thread is faster, and the same everywhere
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # also in the processes that tests start: tests run side by side


@pytest.fixture
def inputs():
    """Random parameters and inputs of layers and models, from one seed."""
    return RandomInputs(0)


@pytest.fixture
def rng(inputs):
    return inputs.rng


@pytest.fixture
def normal(inputs):
    """normal(2, 3): a (2, 3) array of standard normal numbers."""
    return inputs.normal


@pytest.fixture(scope="session")
def shapes():
    """A few coloured shapes to train on: PictureSet, [Evaluation, Evaluation]."""
    return shapes_data(pictures=240)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A user's folder: six classes of three pictures."""
    folder = tmp_path_factory.mktemp("user") / "photos"
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for i in range(3):
            draw(folder / colour / f"{i}.png", colour, 4 + 3 * i)
    return folder


@pytest.fixture(scope="session")
def trained(photos, tmp_path_factory):
    """A run on these photos, as a user starts it: its folder, and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "colours"
    done = python("train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", "12", "--threads", "2")
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture
def card():
    """A double of a graphics card; while the test runs, `import cupy` gives the double of CuPy."""
    from cupy_double import cupy_double

    with cupy_double() as card:
        import cupy

        register(cupy.ndarray)
        yield card


@pytest.fixture
def cupy(card):
    """The double of CuPy."""
    import cupy

    return cupy


@pytest.fixture
def prove():
    return prove_layer


def prove_layer(f, *args, methods=("complex", "central", "adjoint"), exclude=(), **options):
    """Assert all that is promised of a layer, y, backward = f(*args), at this point (see gradcheck.check).

    The gradients, in three ways. Nothing that was given is written to. float32 stays float32. The memory
    layout of what is given does not matter. And a second call in between changes nothing.
    """
    for method in methods:
        report = check(f, *args, method=method, exclude=exclude, **options)
        assert report.ok, f"\n{report}"
        assert report.rows

    y, _ = run(f, args, np.copy)
    dy = np.random.default_rng([1, 2]).standard_normal(np.shape(y))
    y, gradients = run(f, args, np.copy, dy)

    y_again, gradients_again = run(f, args, frozen, frozen(dy))
    assert same_bits(y_again, y)
    assert all(same_bits(gradients_again[name], gradients[name]) for name in gradients)

    y_single, gradients_single = run(f, args, lambda a: a.astype(np.float32), dy.astype(np.float32))
    for name, single, double in [("y", y_single, y)] + [(n, gradients_single[n], gradients[n]) for n in gradients]:
        assert single.dtype == np.float32, f"{name} became {single.dtype}"
        assert np.abs(single - double).max() <= 1e-3 * max(1, np.abs(double).max()), name

    for layout in (by_columns, spaced):
        y_other, gradients_other = run(f, args, layout, layout(dy))
        for other, plain in [(y_other, y)] + [(gradients_other[n], gradients[n]) for n in gradients]:
            assert np.abs(other - plain).max() <= 1e-12 * max(1, np.abs(plain).max())

    y, backward = f(*changed(args, np.copy))
    _, backward_other = f(*changed(args, lambda a: a * 0.9))
    call(backward_other, dy * 0.5)
    later = flatten(call(backward, dy))
    assert all(same_bits(later[name], gradients[name]) for name in gradients)


def run(f, args, change, dy=None):
    """The layer with its arrays of floats changed -> y, {name: gradient}."""
    y, backward = f(*changed(args, change))
    return y, flatten(call(backward, np.zeros_like(y) if dy is None else dy))


def changed(args, change):
    """The arguments with their arrays of floats changed."""
    return tree_map(lambda leaf: change(leaf) if getattr(leaf, "dtype", np.dtype(int)).kind == "f" else leaf, args)


def call(backward, dy):
    return backward(dy) if inspect.signature(backward).parameters else backward()


def frozen(array):
    """A copy that may not be written to."""
    array = array.copy()
    array.flags.writeable = False
    return array


def by_columns(array):
    """The same numbers, column by column in memory."""
    return np.asfortranarray(array) if array.ndim else array


def spaced(array):
    """The same numbers with gaps between them in memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
