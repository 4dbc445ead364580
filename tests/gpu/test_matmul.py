"""Stacks of products as they lie in a card's memory: cuBLAS, or a double of it, gives what NumPy computes."""

import numpy as np
import pytest

from miniclip.attention import matmul as dispatched
from miniclip.attention import split_heads
from miniclip.gpu.matmul import matmul

pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs `pip install ml_dtypes`.")
pytestmark = pytest.mark.double
EXACT = {"float64": 1e-13, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def random_view(rng, shape):
    """The shape of some memory, and what views it as an array of `shape`: axes in any order, gaps, backwards."""
    order, gaps = rng.permutation(len(shape)).tolist(), rng.choice([1, 1, 2, -1], len(shape)).tolist()
    places = tuple(slice(None, None, gap) for gap in gaps)
    axes = np.argsort(order).tolist()
    return [abs(gap) * shape[axis] for gap, axis in zip(gaps, order)], lambda room: room[places].transpose(*axes)


def agree(found, a, b):
    a, b = (x.get().astype(np.float64) for x in (a, b))
    expected, size = np.matmul(a, b), np.matmul(abs(a), abs(b)).max(initial=0)
    assert found.shape == expected.shape
    error = abs(found.get().astype(np.float64) - expected).max(initial=0)
    assert error <= EXACT[found.dtype.name] * size


@pytest.mark.parametrize("dtype", EXACT)
def test_any_view_gives_numpys_result(xp, rng, dtype):
    """Also into any view, and into nothing beside it."""
    for case in range(200):
        stack, (m, k, n) = rng.integers(0 if case % 4 == 0 else 1, 5, rng.integers(1, 3)), rng.integers(0, 5, 3)
        drawn = []
        for shape in (*stack, m, k), (*stack, k, n), (*stack, m, n):
            room, view = random_view(rng, list(map(int, shape)))
            drawn.append((xp.asarray(rng.standard_normal(room).astype(dtype)), view))
        a, b, out = (view(room) for room, view in drawn)
        if case % 3 == 0 and stack[0]:
            b = b[:1]
        if case % 5 == 0 and len(stack) == 2 and stack[0] == 1:
            a = a[0]
        y = matmul(a, b)
        assert y.dtype == dtype
        agree(y, a, b)
        room, view = drawn[2]
        before, others = room.get(), np.ones(room.shape, bool)
        view(others)[...] = False
        assert matmul(a, b, out=out) is out
        agree(out, a, b)
        assert room.get()[others].tobytes() == before[others].tobytes()


@pytest.mark.parametrize("stride", [-8, 0, 8, 1 << 40])
def test_the_stride_of_an_axis_of_one_says_nothing(xp, normal, stride):
    def odd(array):
        strides = [stride if length == 1 else step for length, step in zip(array.shape, array.strides)]
        return xp.lib.stride_tricks.as_strided(array, array.shape, strides)

    for shape_a, shape_b in [((1, 3, 1, 4), (1, 3, 4, 5)), ((3, 1, 4, 1), (3, 1, 1, 5)), ((1, 1, 2, 3), (1, 1, 3, 1))]:
        a, b = xp.asarray(normal(*shape_a)), xp.asarray(normal(*shape_b))
        out = xp.empty((*shape_a[:-1], shape_b[-1]))
        matmul(odd(a), odd(b), out=odd(out))
        agree(out, a, b)


@pytest.mark.parametrize(
    "a, b, out", [((2, 3, 4), (2, 5, 6), None), ((2, 3, 4), (2, 4, 6), (2, 3, 5)), ((2, 3, 4), (3, 4, 6), None)]
)
def test_shapes_that_do_not_fit_are_refused(xp, normal, a, b, out):
    with pytest.raises(ValueError):
        matmul(xp.asarray(normal(*a)), xp.asarray(normal(*b)), out=out and xp.empty(out))


@pytest.mark.parametrize(
    "n, heads, t, d", [(5, 3, 7, 4), (2, 4, 6, 8), (1, 3, 5, 2), (4, 1, 5, 2), (3, 2, 1, 4), (3, 2, 5, 1), (1, 1, 1, 1)]
)
def test_no_head_of_attention_is_copied(card, cupy, normal, n, heads, t, d):
    """Every product of attend_heads, and of a last block that asks at one position: nothing runs but cuBLAS."""
    dtype = np.float32
    (q, k, v), dqkv = (split_heads(cupy.asarray(normal(n, t, 3 * heads * d).astype(dtype)), 3, heads) for _ in range(2))
    (dy,), (mixed,) = (split_heads(cupy.asarray(normal(n, t, heads * d).astype(dtype)), 1, heads) for _ in range(2))
    (one,) = split_heads(cupy.asarray(normal(n, 1, heads * d).astype(dtype)), 1, heads)
    weights = cupy.asarray(normal(n, heads, t, t).astype(dtype))
    for a, b, out in [
        (q, k.swapaxes(-1, -2), None),
        (weights, v, mixed),
        (dy, v.swapaxes(-1, -2), None),
        (weights, k, dqkv[0]),
        (weights.swapaxes(-1, -2), q, dqkv[1]),
        (weights.swapaxes(-1, -2), dy, dqkv[2]),
        (one, k.swapaxes(-1, -2), None),
        (weights[:, :, :1], v, None),
        (weights[:, :, :1].swapaxes(-1, -2), one, None),
    ]:
        card.products.clear()
        with card.counting() as counts:
            y = matmul(a, b, out=out)
        agree(y, a, b)
        assert counts.launches == len(card.products) <= min(n, heads)


def test_as_few_calls_as_the_strides_allow(card, cupy, normal):
    right, heads = cupy.asarray(normal(6, 4, 5, 2)), cupy.asarray(normal(6, 3, 4, 5)).swapaxes(1, 2)
    for a, b, batches in [
        (cupy.asarray(normal(6, 4, 3, 5)), right, [24]),  # both axes are one in memory
        (heads, right, [6] * 4),  # a call for each of 4 heads, not for each of 6 rows
        (heads[:2], right[:2], [4] * 2),
        (cupy.asarray(normal(7, 3, 5)), cupy.asarray(normal(7, 5, 2)), [7]),
    ]:
        card.products.clear()
        matmul(a, b)
        assert [batch for _, _, _, batch, _ in card.products] == batches


def test_what_cupy_does_well_is_left_to_it(card, cupy, normal):
    for a, b in [((3, 4), (4, 5)), ((3, 4), (4,))]:
        dispatched(cupy.asarray(normal(*a)), cupy.asarray(normal(*b)))
    dispatched(*(cupy.asarray(normal(*shape) * 1j) for shape in [(2, 3, 4), (2, 4, 5)]))
    assert not card.products
    dispatched(cupy.asarray(normal(2, 3, 4)), cupy.asarray(normal(2, 4, 5)))
    assert len(card.products) == 1
