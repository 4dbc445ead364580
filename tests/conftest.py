"""What all tests share: seeded numbers, and `prove`, which every layer must pass."""

import inspect

import numpy as np
import pytest
from cupy_double import cupy_double
from threadpoolctl import threadpool_limits

from miniclip.gradcheck.check import check
from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.numeric import Point

threadpool_limits(1)  # matrices are small here: one thread is faster, and the same everywhere


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def normal(rng):
    """normal(2, 3): a (2, 3) array of standard normal numbers."""
    return lambda *shape: rng.standard_normal(shape)


@pytest.fixture
def prove():
    return prove_layer


@pytest.fixture
def card():
    """A double of a graphics card; while the test runs, `import cupy` gives the double of CuPy."""
    with cupy_double() as card:
        yield card


@pytest.fixture
def cupy(card):
    """The double of CuPy."""
    import cupy

    return cupy


def prove_layer(f, *args, methods=("complex", "central", "adjoint"), exclude=(), **options):
    """Assert all that the house promises of y, backward = f(*args), at this point (see gradcheck.check).

    The gradients, in three ways. Nothing that was given is written to. float32 stays float32. The memory
    layout of what is given does not matter. And a second call in between changes nothing.
    """
    for method in methods:
        report = check(f, *args, method=method, exclude=exclude, **options)
        assert report.ok, f"\n{report}"
        assert report.rows

    point = Point(f, args, exclude)
    y, backward = point.call(point.copies())
    dy = np.random.default_rng([1, 2]).standard_normal(np.shape(y))
    gradients = point.named(pull(backward, dy))

    y_again, gradients_again = run(point, frozen, frozen(dy))
    assert same_bits(y_again, y)
    assert all(same_bits(gradients_again[name], gradients[name]) for name in gradients)

    y_single, gradients_single = run(point, lambda a: a.astype(np.float32), dy.astype(np.float32))
    for name, single, double in [("y", y_single, y)] + [(n, gradients_single[n], gradients[n]) for n in gradients]:
        assert single.dtype == np.float32, f"{name} became {single.dtype}"
        assert np.abs(single - double).max() <= 1e-3 * max(1, np.abs(double).max()), name

    for layout in (np.asfortranarray, spaced):
        y_other, gradients_other = run(point, layout, layout(dy))
        for other, plain in [(y_other, y)] + [(gradients_other[n], gradients[n]) for n in gradients]:
            assert np.abs(other - plain).max() <= 1e-12 * max(1, np.abs(plain).max())

    y, backward = point.call(point.copies())
    _, backward_other = point.call({name: leaf * 0.9 for name, leaf in point.leaves.items()})
    pull(backward_other, dy * 0.5)
    later = point.named(pull(backward, dy))
    assert all(same_bits(later[name], gradients[name]) for name in gradients)


def run(point, change, dy):
    """The layer with its arrays changed -> y, {name: gradient}."""
    y, backward = point.call({name: change(leaf) for name, leaf in point.leaves.items()})
    return y, point.named(pull(backward, dy))


def pull(backward, dy):
    return backward(dy) if inspect.signature(backward).parameters else backward()


def frozen(array):
    """A copy that may not be written to."""
    array = array.copy()
    array.flags.writeable = False
    return array


def spaced(array):
    """The same numbers with gaps between them in memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
