"""Wrong linear layers, embeddings and activations."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ linear


def dense(x, weight, bias, dx=None, dweight=None, dbias=None):
    """A linear layer with another gradient of x, of weight or of bias: functions of rows, drows and weight."""
    rows = x.reshape(-1, x.shape[-1])
    y = rows @ weight.T
    if bias is not None:
        y = y + bias

    def backward(dy):
        drows = dy.reshape(-1, dy.shape[-1])
        grads = {"weight": dweight(rows, drows) if dweight else drows.T @ rows}
        if bias is not None:
            grads["bias"] = dbias(rows, drows) if dbias else drows.sum(0)
        return (dx(drows, weight) if dx else drows @ weight).reshape(x.shape), grads

    return y.reshape(*x.shape[:-1], -1), backward


def is_square(weight):
    return weight.shape[0] == weight.shape[1]


@bug("linear", "transposed")
def weight_turned(x, weight, bias=None):
    return dense(x, weight, bias, dx=lambda drows, w: drows @ (w.T if is_square(w) else w))


@bug("linear", "transposed")
def its_gradient_turned(x, weight, bias=None):
    turn = is_square(weight)
    return dense(x, weight, bias, dweight=lambda rows, drows: rows.T @ drows if turn else drows.T @ rows)


@bug("linear", "1/N")
def weight_averaged(x, weight, bias=None):
    return dense(x, weight, bias, dweight=lambda rows, drows: drows.T @ rows / len(rows))


@bug("linear", "1/N")
def bias_averaged(x, weight, bias=None):
    return dense(x, weight, bias, dbias=lambda rows, drows: drows.mean(0))


@bug("linear", "overwritten")
def last_text_alone(x, weight, bias=None):
    y, right = dense(x, weight, bias)
    if x.ndim != 3:
        return y, right

    def backward(dy):
        dx, grads = right(dy)
        for one, given in zip(x, dy):
            grads["weight"] = given.T @ one
        return dx, grads

    return y, backward


@bug("linear", "missing term")
def no_bias(x, weight, bias=None):
    y, backward = dense(x, weight, None)
    return y, lambda dy: (backward(dy)[0], backward(dy)[1] | {"bias": dy.reshape(-1, dy.shape[-1]).sum(0)})


@bug("linear", "−1")
def signs(x, weight, bias=None):
    return dense(x, weight, bias, dbias=lambda rows, drows: -drows.sum(0))


@bug("linear", "")
def two_axes_only(x, weight, bias=None):
    y = x @ weight.T if bias is None else x @ weight.T + bias
    return y, lambda dy: (dy @ weight, {"weight": dy.T @ x, "bias": dy.sum(0)})


@bug("linear", "")
def a_bias_always(x, weight, bias=None):
    y, backward = dense(x, weight, np.zeros(len(weight)) if bias is None else bias)
    return y, backward


@bug("linear", "")
def a_gradient_of_the_bias_for_each_position(x, weight, bias=None):
    y, right = dense(x, weight, bias)
    return y, lambda dy: (right(dy)[0], right(dy)[1] | {"bias": dy.sum(0)})


# ------------------------------------------------------------------------------------------ embedding


def table(ids, weight, add):
    def backward(dy):
        dweight = np.zeros_like(weight)
        add(dweight, dy)
        return {"weight": dweight}

    return weight[ids], backward


@bug("embedding", "overwritten")
def assigned(ids, weight):
    def add(dweight, dy):
        dweight[ids] = dy

    return table(ids, weight, add)


@bug("embedding", "overwritten")
def added_with_brackets(ids, weight):
    def add(dweight, dy):
        dweight[ids] += dy

    return table(ids, weight, add)


@bug("embedding", "1/N")
def averaged(ids, weight):
    def add(dweight, dy):
        np.add.at(dweight, ids, dy)
        dweight /= np.maximum(np.bincount(ids.ravel(), minlength=len(weight)), 1)[:, None]

    return table(ids, weight, add)


@bug("embedding", "permuted, some indices")
def the_row_after(ids, weight):
    def add(dweight, dy):
        np.add.at(dweight, (ids + 1) % len(weight), dy)

    return table(ids, weight, add)


@bug("embedding", "missing term, some indices, never accumulated")
def last_position_left_out(ids, weight):
    def add(dweight, dy):
        np.add.at(dweight, ids[:, :-1], dy[:, :-1])

    return table(ids, weight, add)


@bug("embedding", "permuted")
def ids_from_one(ids, weight):
    y = weight[ids - 1]
    return y, lambda dy: {"weight": np.zeros_like(weight)}


@bug("embedding", "")
def rows_of_the_text(ids, weight):
    return weight[ids], lambda dy: {"weight": dy.reshape(-1, dy.shape[-1])}


# ------------------------------------------------------------------------------------------ relu


@bug("relu", "mask")
def mask_forgotten(x):
    return np.maximum(x, 0), lambda dy: dy.copy()


@bug("relu", "mask, cotangent")
def mask_of_the_gradient(x):
    return np.maximum(x, 0), lambda dy: dy * (dy > 0)


@bug("relu", "mask")
def mask_inverted(x):
    return np.maximum(x, 0), lambda dy: dy * (x < 0)


@bug("relu", "slope, factor, mask")
def times_the_output(x):
    y = np.maximum(x, 0)
    return y, lambda dy: dy * y


@bug("relu", "slope")
def absolute(x):
    return abs(x), lambda dy: dy * np.sign(x)


@bug("relu", "slope")
def leaky(x):
    return np.where(x > 0, x, x * 0.01), lambda dy: dy * np.where(x > 0, 1, 0.01)


@bug("relu", "")
def by_division(x):
    y = np.maximum(x, 0)
    return y, lambda dy: dy * y / x


# ------------------------------------------------------------------------------------------ quick_gelu


def gated(x, slope):
    """x σ(1.702 x) with another slope, slope(x, y, σ)."""
    sigmoid = 1 / (1 + np.exp(-1.702 * x))
    y = x * sigmoid
    return y, lambda dy: dy * slope(x, y, sigmoid)


@bug("quick_gelu", "slope, missing term")
def no_product_rule(x):
    return gated(x, lambda x, y, s: s)


@bug("quick_gelu", "slope, missing term")
def second_term_alone(x):
    return gated(x, lambda x, y, s: 1.702 * x * s * (1 - s))


@bug("quick_gelu", "slope, missing term")
def factor_forgotten(x):
    return gated(x, lambda x, y, s: s + x * s * (1 - s))


@bug("quick_gelu", "slope, missing term")
def slope_of_the_sigmoid_alone(x):
    return gated(x, lambda x, y, s: s + 1.702 * s * (1 - s))


@bug("quick_gelu", "slope, missing term")
def y_for_x(x):
    return gated(x, lambda x, y, s: s + 1.702 * y * s * (1 - s))


@bug("quick_gelu", "slope, −1, missing term")
def minus(x):
    return gated(x, lambda x, y, s: s - 1.702 * x * s * (1 - s))


@bug("quick_gelu", "factor")
def swish(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, lambda dy: dy * (s + x * s * (1 - s))


@bug("quick_gelu", "precision")
def rounded(x):
    s = 1 / (1 + np.exp(-1.7 * x))
    return x * s, lambda dy: dy * (s + 1.7 * x * s * (1 - s))


@bug("quick_gelu", "precision, slope")
def rounded_on_the_way_back(x):
    return gated(x, lambda x, y, s: s + 1.7 * x * s * (1 - s))
