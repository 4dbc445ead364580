"""Faults to develop with: broadcasting, einsum, moving entries about, linear algebra, rotations and simple physics."""

import numpy as np
from bank_fault import new_bank, positive, well_conditioned

FAULTS, fault = new_bank()


@fault("broadcast", "s", "summed over the wrong axis", "wrong axis", x=(7, 7), s=(7,))
def scale_wrong_axis(wrong, x, s):
    return x * s, lambda dy: (dy * s, (dy * x).sum(1 if wrong else 0))


@fault("einsum", "b", "the operands in the forward's order: a dy for aᵀ dy", "transposed", a=(3, 5, 5), b=(3, 5, 4))
def einsum_not_transposed(wrong, a, b):
    y = np.einsum("nij,njk->nik", a, b)
    return y, lambda dy: (
        np.einsum("nik,njk->nij", dy, b),
        np.einsum("nij,njk->nik" if wrong else "nji,njk->nik", a, dy),
    )


@fault("moving", "x", "summed from the front again, not from the back", "turned", x=(4, 9))
def cumsum_from_the_front(wrong, x):
    return np.cumsum(x, 1), lambda dy: (np.cumsum(dy, 1) if wrong else np.cumsum(dy[:, ::-1], 1)[:, ::-1],)


@fault("moving", "x", "sorted with argsort again, not put back", "permuted", x=(3, 8))
def sort_not_put_back(wrong, x):
    order = np.argsort(x, 1)

    def backward(dy):
        back = order if wrong else np.argsort(order, 1)
        return (np.take_along_axis(dy, back, 1),)

    return np.take_along_axis(x, order, 1), backward


@fault("moving", "a, b", "the two parts of a concatenation exchanged", "swapped", a=(4, 3), b=(4, 3))
def concatenated_parts_exchanged(wrong, a, b):
    def backward(dy):
        left, right = np.split(dy, 2, axis=1)
        da, db = (right, left) if wrong else (left, right)
        return da * 2 * a, db

    return np.concatenate([a**2, b], 1), backward


@fault("moving", "x", "the same permutation of axes, not its inverse", "permuted", x=(4, 4, 4))
def transpose_not_inverted(wrong, x):
    return x.transpose(1, 2, 0), lambda dy: (dy.transpose((1, 2, 0) if wrong else (2, 0, 1)),)


@fault("moving", "x", "dy goes to every entry, not to the largest alone", "mask", x=(5, 8))
def max_without_mask(wrong, x):
    y = np.max(x, axis=1, keepdims=True)
    return y[:, 0], lambda dy: (dy[:, None] * (np.ones_like(x) if wrong else x == y),)


@fault("linear algebra", "x", "A x for (A + Aᵀ) x", "one-sided", x=(6,), a=(6, 6))
def quadratic_form_one_sided(wrong, x, a):
    return x @ a @ x, lambda: (a @ x + (0 if wrong else a.T @ x), np.outer(x, x))


@fault("linear algebra", "a", "the inverse not transposed", "transposed", a=well_conditioned(5))
def inverse_not_transposed(wrong, a):
    inv = np.linalg.inv(a)
    left = inv if wrong else inv.T
    return inv, lambda dy: (-left @ dy @ left,)


@fault("linear algebra", "a", "the sign of the matrix' gradient", "-1", a=well_conditioned(5), b=(5, 3))
def solve_sign(wrong, a, b):
    x = np.linalg.solve(a, b)

    def backward(dx):
        db = np.linalg.solve(a.T, dx)
        return (1 if wrong else -1) * db @ x.T, db

    return x, backward


@fault("rotation", "q", "the projection onto unit quaternions forgotten", "projection", q=(4,), v=(6, 3))
def quaternion_without_projection(wrong, q, v):
    r = np.linalg.norm(q)
    w, u = q[0] / r, q[1:] / r
    t = 2 * np.cross(u, v)

    def backward(dy):
        dt = w * dy + np.cross(dy, u)
        dv = dy + 2 * np.cross(dt, u)
        du = np.cross(t, dy).sum(0) + 2 * np.cross(v, dt).sum(0)
        dunit = np.concatenate([[(dy * t).sum()], du])
        return (dunit - (0 if wrong else q * (q @ dunit) / r**2)) / r, dv

    return v + w * t + np.cross(u, t), backward


@fault("rotation", "a", "the factors of a cross product exchanged", "-1", a=(7, 3), b=(7, 3))
def cross_product_order(wrong, a, b):
    return np.cross(a, b), lambda dy: (np.cross(dy, b) if wrong else np.cross(b, dy), np.cross(dy, a))


@fault("physics", "x", "the spring pulls only one of its two ends", "one-sided, missing term", x=(9, 2), k=positive(8))
def spring_pulls_one_end(wrong, x, k):
    stretch = x[1:] - x[:-1]

    def backward():
        force = k[:, None] * stretch
        dx = np.zeros_like(x)
        dx[1:] += force
        if not wrong:
            dx[:-1] -= force
        return dx, 0.5 * (stretch**2).sum(1)

    return 0.5 * (k * (stretch**2).sum(1)).sum(), backward
