"""Faults to examine with: broadcasting, einsum, moving entries about, linear algebra, rotations and simple physics."""

import numpy as np
from bank_fault import integers, new_bank, positive

FAULTS, fault = new_bank()


@fault("broadcast", "s", "averaged: the gradient of a scalar is a sum", "1/N, factor", x=(5, 9), s=())
def scalar_gradient_averaged(wrong, x, s):
    return x * s, lambda dy: (dy * s, np.asarray((dy * x).mean() if wrong else (dy * x).sum()))


@fault("einsum", "x, y", "the gradients of the two sides exchanged", "swapped", x=(5, 4), y=(5, 4), w=(3, 4, 4))
def bilinear_sides_exchanged(wrong, x, y, w):
    def backward(dz):
        dx = np.einsum("no,oij,nj->ni", dz, w, y)
        dy = np.einsum("no,oij,ni->nj", dz, w, x)
        dw = np.einsum("no,ni,nj->oij", dz, x, y)
        return (dy, dx, dw) if wrong else (dx, dy, dw)

    return np.einsum("ni,oij,nj->no", x, w, y), backward


@fault("moving", "x", "the sum from the back leaves its own entry out", "missing term, some indices", x=(8, 3))
def cumsum_exclusive(wrong, x):
    def backward(dy):
        dx = np.cumsum(dy[::-1], axis=0)[::-1]
        return (dx - dy if wrong else dx,)

    return np.cumsum(x, axis=0), backward


@fault("moving", "x", "= for += with repeated indices", "overwritten", x=(4, 5), index=integers((4, 8), 5))
def gather_overwrites(wrong, x, index):
    rows = np.arange(4)[:, None]

    def backward(dy):
        dx = np.zeros_like(x)
        if wrong:
            np.put_along_axis(dx, index, dy, axis=1)
        else:
            np.add.at(dx, (rows, index), dy)
        return (dx,)

    return np.take_along_axis(x, index, axis=1), backward


@fault("moving", "x", "the blocks of pixels put back in another order of axes", "permuted", x=(2, 12, 3, 2))
def pixel_shuffle_order(wrong, x):
    y = x.reshape(2, 3, 2, 2, 3, 2).transpose(0, 1, 4, 2, 5, 3).reshape(2, 3, 6, 4)

    def backward(dy):
        blocks = dy.reshape(2, 3, 3, 2, 2, 2)
        order = (0, 1, 5, 3, 2, 4) if wrong else (0, 1, 3, 5, 2, 4)
        return (blocks.transpose(order).reshape(x.shape),)

    return y, backward


@fault("moving", "x", "rolled on, not back", "permuted", x=(5, 7))
def roll_not_back(wrong, x):
    return np.roll(x, 2, axis=1), lambda dy: (np.roll(dy, 2 if wrong else -2, axis=1),)


@fault("moving", "x", "the weights of the left and the right neighbour exchanged", "swapped, permuted", x=(3, 8))
def linear_interpolation_exchanged(wrong, x):
    place = np.array([0.2, 1.9, 3.4, 3.7, 5.1, 6.8])
    left = place.astype(int)
    w = place - left

    def backward(dy):
        dx = np.zeros_like(x)
        a, b = (w, 1 - w) if wrong else (1 - w, w)
        np.add.at(dx, (slice(None), left), dy * a)
        np.add.at(dx, (slice(None), left + 1), dy * b)
        return (dx,)

    return (1 - w) * x[:, left] + w * x[:, left + 1], backward


@fault("linear algebra", "a", "y xᵀ for x yᵀ", "transposed", x=(5,), a=(5, 5), y=(5,))
def bilinear_form_transposed(wrong, x, a, y):
    return x @ a @ y, lambda: (a @ y, np.outer(y, x) if wrong else np.outer(x, y), a.T @ x)


@fault("linear algebra", "a", "the diagonal not halved", "some indices, missing term, factor", a=(5, 5))
def cholesky_diagonal_not_halved(wrong, a):
    l = np.linalg.cholesky(a @ a.T + np.eye(5))

    def backward(dl):
        phi = np.tril(l.T @ dl)
        if not wrong:
            phi[np.diag_indices(5)] /= 2
        inv = np.linalg.inv(l)
        s = inv.T @ phi @ inv
        return ((s + s.T) @ a,)

    return l, backward


@fault("linear algebra", "x", "2 dy xᵀ: as if matrices commuted", "one-sided, missing term", x=(5, 5))
def matrix_square_commuting(wrong, x):
    return x @ x, lambda dy: (2 * dy @ x.T if wrong else dy @ x.T + x.T @ dy,)


@fault("linear algebra", "a, b", "the formula of p = 2 for every p", "slope, missing term", a=(5, 3), b=(4, 3))
def distances_power_ignored(wrong, a, b):
    difference = a[:, None] - b[None]
    size = np.abs(difference)
    y = (size**3).sum(2) ** (1 / 3)

    def backward(dy):
        d = difference / y[:, :, None] if wrong else np.sign(difference) * (size / y[:, :, None]) ** 2
        d = dy[:, :, None] * d
        return d.sum(1), -d.sum(0)

    return y, backward


@fault("rotation", "angle", "the sign of the sine's derivative", "-1, slope", x=(6, 2), angle=(6,))
def rotation_angle_sign(wrong, x, angle):
    c, s = np.cos(angle), np.sin(angle)
    y = np.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)

    def backward(dy):
        dx = np.stack([c * dy[:, 0] + s * dy[:, 1], c * dy[:, 1] - s * dy[:, 0]], 1)
        dc = (dy * x).sum(1)
        ds = dy[:, 1] * x[:, 0] - dy[:, 0] * x[:, 1]
        return dx, (s if wrong else -s) * dc + c * ds

    return y, backward


def quaternion_product(p, q):
    scalar = p[:, :1] * q[:, :1] - (p[:, 1:] * q[:, 1:]).sum(1, keepdims=True)
    return np.hstack([scalar, p[:, :1] * q[:, 1:] + q[:, :1] * p[:, 1:] + np.cross(p[:, 1:], q[:, 1:])])


@fault("rotation", "p", "q not conjugated", "-1, transposed, some indices", p=(5, 4), q=(5, 4))
def quaternion_not_conjugated(wrong, p, q):
    conjugate = np.array([1, -1, -1, -1])

    def backward(dy):
        dp = quaternion_product(dy, q if wrong else q * conjugate)
        return dp, quaternion_product(p * conjugate, dy)

    return quaternion_product(p, q), backward


@fault("physics", "charge", "every pair counted twice", "2, k times", x=(6, 3), charge=(6,))
def coulomb_pairs_twice(wrong, x, charge):
    difference = x[:, None] - x[None]
    r = np.sqrt((difference**2).sum(-1) + np.eye(6))
    inverse = (1 - np.eye(6)) / r

    def backward():
        force = -np.outer(charge, charge)[:, :, None] * (inverse / r**2)[:, :, None] * difference
        return force.sum(1), (2 if wrong else 1) * inverse @ charge

    return 0.5 * charge @ inverse @ charge, backward


@fault("physics", "k", "= for += over the steps", "time step, overwritten", x=(4,), k=positive())
def oscillator_stiffness_overwritten(wrong, x, k):
    states = [(x, np.zeros(4))]
    for _ in range(6):
        place, speed = states[-1]
        speed = speed - 0.3 * k * np.sin(place)
        states.append((place + 0.3 * speed, speed))

    def backward(dplace):
        dspeed, dk = np.zeros(4), 0
        for place, _ in reversed(states[:-1]):
            dspeed = dspeed + 0.3 * dplace
            dk = -0.3 * (dspeed * np.sin(place)).sum() + (0 if wrong else dk)
            dplace = dplace - 0.3 * k * np.cos(place) * dspeed
        return dplace, np.asarray(dk)

    return states[-1][0], backward
