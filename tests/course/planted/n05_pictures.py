"""Wrong convolutions, pools and batch norms."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ convolution, by loops


def loops(x, weight, stride, window_back=None, weight_back=None, write="add", total=np.sum, end=0):
    """A convolution by loops with another backward pass at each place."""
    n, h, w, _ = x.shape
    out, _, kh, kw = weight.shape
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    places = [(i, j, slice(i * stride, i * stride + kh), slice(j * stride, j * stride + kw))
              for i in range(rows) for j in range(columns)]  # fmt: skip
    y = np.zeros((n, rows, columns, out), x.dtype)
    for i, j, a, b in places:
        y[:, i, j] = np.einsum("nuvc,ocuv->no", x[:, a, b], weight)

    def backward(dy):
        dx, dweight = np.zeros_like(x), np.zeros_like(weight)
        for i, j, a, b in places[: len(places) - end]:
            dwindow = (window_back or right_window)(dy[:, i, j], weight)
            if write == "add":
                dx[:, a, b] += dwindow
            else:
                dx[:, a, b] = dwindow
            part = (weight_back or right_weight)(dy[:, i, j], x[:, a, b])
            dweight = part if write == "last weight" else dweight + part
        return dx, {"weight": dweight / (len(places) if total is np.mean else 1)}

    return y, backward


def right_window(d, weight):
    return np.einsum("no,ocuv->nuvc", d, weight)


def right_weight(d, window):
    return np.einsum("no,nuvc->ocuv", d, window)


@bug("convolve", "overwritten, missing term, some indices")
def windows_overwrite(x, weight, stride=1):
    return loops(x, weight, stride, write="set")


@bug("convolve", "turned, permuted")
def turned_back(x, weight, stride=1):
    return loops(x, weight, stride, lambda d, w: right_window(d, w[:, :, ::-1, ::-1]))


@bug("convolve", "1/N, factor")
def weight_averaged(x, weight, stride=1):
    return loops(x, weight, stride, total=np.mean)


@bug("convolve", "1/N, factor, ½")
def mean_over_pictures(x, weight, stride=1):
    return loops(x, weight, stride, weight_back=lambda d, window: right_weight(d, window) / len(d))


@bug("convolve", "")
def last_window_forgotten(x, weight, stride=1):
    return loops(x, weight, stride, end=1)


@bug("convolve", "permuted, transposed, turned")
def weight_gradient_turned(x, weight, stride=1):
    return loops(x, weight, stride, weight_back=lambda d, window: right_weight(d, window[:, ::-1, ::-1]))


@bug("convolve", "turned")
def kernel_turned(x, weight, stride=1):
    y, backward = loops(x, weight[:, :, ::-1, ::-1], stride)
    return y, backward


@bug("convolve", "permuted, runs")
def flattened_otherwise(x, weight, stride=1):
    n, h, w, _ = x.shape
    out, _, kh, kw = weight.shape
    y = np.zeros((n, (h - kh) // stride + 1, (w - kw) // stride + 1, out), x.dtype)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            a, b = i * stride, j * stride
            y[:, i, j] = x[:, a : a + kh, b : b + kw].reshape(n, -1) @ weight.reshape(out, -1).T
    return y, lambda dy: None


@bug("convolve", "")
def stride_forgotten_on_the_way_back(x, weight, stride=1):
    y, _ = loops(x, weight, stride)

    def backward(dy):
        dx, dweight = np.zeros_like(x), np.zeros_like(weight)
        kh, kw = weight.shape[2:]
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                dx[:, i : i + kh, j : j + kw] += right_window(dy[:, i, j], weight)
                dweight += right_weight(dy[:, i, j], x[:, i : i + kh, j : j + kw])
        return dx, {"weight": dweight}

    return y, backward


# ------------------------------------------------------------------------------------------ patches


def scatter(patches, shape, kh, kw, stride, padding, order="uvc", add=True, cut=True):
    n, h, w, c = shape
    sizes = {"u": kh, "v": kw, "c": c}
    padded = np.zeros((n, h + 2 * padding, w + 2 * padding, c))
    _, rows, columns, _ = patches.shape
    for i in range(rows):
        for j in range(columns):
            patch = patches[:, i, j].reshape(n, *(sizes[axis] for axis in order))
            patch = np.einsum(f"n{order}->nuvc", patch)
            where = np.s_[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
            padded[where] = padded[where] + patch if add else patch
    return padded[:, padding : padding + h, padding : padding + w] if cut else padded


@bug("scatter_patches", "overwritten")
def not_added(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, add=False)


@bug("scatter_patches", "permuted")
def channels_first(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, order="cuv")


@bug("scatter_patches", "permuted")
def columns_before_rows(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, order="vuc")


@bug("scatter_patches", "")
def frame_left_on(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, cut=False)


@bug("scatter_patches", "some indices")
def frame_cut_at_the_end(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, cut=False)[:, : shape[1], : shape[2]]


@bug("scatter_patches", "some indices")
def minus_zero(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, stride, padding, cut=False)[:, padding:-padding, padding:-padding]


@bug("scatter_patches", "1/N")
def averaged(patches, shape, kh, kw, stride, padding):
    count = scatter(np.ones_like(patches), shape, kh, kw, stride, padding)
    return scatter(patches, shape, kh, kw, stride, padding) / np.maximum(count, 1)


@bug("scatter_patches", "")
def stride_of_one(patches, shape, kh, kw, stride, padding):
    return scatter(patches, shape, kh, kw, 1, padding)


# ------------------------------------------------------------------------------------------ convolution, by patches


def cut(x, kh, kw, stride, padding, mode="constant"):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (1, 2))[:, ::stride, ::stride]
    return np.moveaxis(windows, 3, 5).reshape(*windows.shape[:3], -1)


def by_patches(x, weight, bias, stride, padding, matrix=None, dpatches=None, dweight=None, dbias=None, mode="constant"):
    """A convolution by patches with another matrix, or another step back."""
    out, c, kh, kw = weight.shape
    flat = weight.transpose(0, 2, 3, 1).reshape(out, -1) if matrix is None else matrix
    patches = cut(x, kh, kw, stride, padding, mode)
    y = patches @ flat.T + (0 if bias is None else bias)

    def backward(dy, input_gradient=True):
        d = dy.reshape(-1, out)
        back = (d @ flat if dpatches is None else dpatches(d)).reshape(patches.shape)
        dx = scatter(back, x.shape, kh, kw, stride, padding)
        dmatrix = d.T @ patches.reshape(-1, patches.shape[-1])
        grads = {"weight": (dweight or unflatten)(dmatrix, weight.shape)}
        if bias is not None:
            grads["bias"] = d.sum(0) if dbias is None else dbias(d)
        return dx, grads

    return y, backward


def unflatten(dmatrix, shape):
    out, c, kh, kw = shape
    return dmatrix.reshape(out, kh, kw, c).transpose(0, 3, 1, 2)


@bug("conv2d", "permuted")
def matrix_not_transposed(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, bias, stride, padding, weight.reshape(len(weight), -1))


@bug("conv2d", "permuted")
def gradient_not_transposed(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, bias, stride, padding, dweight=lambda d, shape: d.reshape(shape))


@bug("conv2d", "1/N, factor")
def bias_averaged(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, bias, stride, padding, dbias=lambda d: d.mean(0))


@bug("conv2d", "1/N, factor, ½")
def kernel_averaged(x, weight, bias=None, stride=1, padding=0):
    y, right = by_patches(x, weight, bias, stride, padding)
    return y, lambda dy, input_gradient=True: by_patches(
        x, weight, bias, stride, padding, dweight=lambda d, s: unflatten(d, s) / len(x)
    )[1](dy)


@bug("conv2d", "permuted, turned")
def back_by_another_order(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, bias, stride, padding, dpatches=lambda d: d @ weight.reshape(len(weight), -1))


@bug("conv2d", "clip")
def edges_repeated(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, bias, stride, padding, mode="edge")


@bug("conv2d", "missing term")
def no_bias(x, weight, bias=None, stride=1, padding=0):
    return by_patches(x, weight, None, stride, padding)


@bug("conv2d", "")
def bias_must_be(x, weight, bias=None, stride=1, padding=0):
    y, backward = by_patches(x, weight, None, stride, padding)

    def with_bias(dy, input_gradient=True):
        dx, grads = backward(dy)
        return dx, grads | {"bias": dy.sum((0, 1, 2))}

    return y + bias, with_bias


# ------------------------------------------------------------------------------------------ average pooling


def squares(x, size):
    n, h, w, c = x.shape
    rows, columns = h // size, w // size
    return x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, c)


def pool(x, size, share, total=np.mean):
    def backward(dy):
        dx = np.zeros_like(x)
        spread = dy.repeat(size, 1).repeat(size, 2)
        dx[:, : spread.shape[1], : spread.shape[2]] = spread * share
        return dx

    return total(total(squares(x, size), 4), 2), backward


@bug("average_pool", "N, factor")
def share_forgotten(x, size):
    return pool(x, size, 1)


@bug("average_pool", "factor, 2")
def share_of_a_side(x, size):
    return pool(x, size, 1 / size)


@bug("average_pool", "N")
def sums(x, size):
    return pool(x, size, 1, np.sum)


@bug("average_pool", "slope")
def largest(x, size):
    return pool(x, size, 1, np.max)


@bug("average_pool", "missing term, overwritten, never accumulated, some indices, mask")
def first_pixel_alone(x, size):
    y, _ = pool(x, size, 1)

    def backward(dy):
        dx = np.zeros_like(x)
        dx[:, : y.shape[1] * size : size, : y.shape[2] * size : size] = dy / size**2
        return dx

    return y, backward


@bug("average_pool", "")
def remainder_lost(x, size):
    y, _ = pool(x, size, 1)
    return y, lambda dy: dy.repeat(size, 1).repeat(size, 2) / size**2


@bug("average_pool", "permuted, turned, some indices, wrong axis")
def tiled(x, size):
    y, _ = pool(x, size, 1)

    def backward(dy):
        dx = np.zeros_like(x)
        spread = np.tile(dy, (1, size, size, 1)) / size**2
        dx[:, : spread.shape[1], : spread.shape[2]] = spread
        return dx

    return y, backward


# ------------------------------------------------------------------------------------------ batch norm


def mean(a):
    return a.mean((0, 1, 2))


def right(g, normal, deviation):
    return (g - mean(g) - normal * mean(g * normal)) / deviation


def norm(
    x, weight, bias, running_mean, running_var, training, eps, dx=right, always=False, axes=(0, 1, 2), total=np.sum
):
    """A batch norm with another gradient of x, in training, or of its parameters."""
    count = x.size / x.shape[-1]
    centre = x.mean(axes, keepdims=True) if training else running_mean
    var = ((x - centre) ** 2).mean(axes, keepdims=True) if training else running_var
    deviation = np.sqrt(var + eps)
    normal = (x - centre) / deviation

    def backward(dy):
        g = dy * weight
        back = dx(g, normal, deviation) if training or always else g / deviation
        moved = (
            running_mean - mean(x) if training else 0 * running_mean,
            running_var - mean((x - mean(x)) ** 2) * count / (count - 1) if training else 0 * running_var,
        )
        grads = {"weight": total(dy * normal, (0, 1, 2)), "bias": total(dy, (0, 1, 2))}
        return back, grads | dict(zip(("running_mean", "running_var"), moved))

    return normal * weight + bias, backward


@bug("batch_norm", "centring")
def mean_forgotten(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    dx = lambda g, n, s: (g - n * mean(g * n)) / s
    return norm(x, weight, bias, running_mean, running_var, training, eps, dx)


@bug("batch_norm", "projection")
def variance_a_constant(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, lambda g, n, s: (g - mean(g)) / s)


@bug("batch_norm", "centring, projection")
def as_in_use(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, lambda g, n, s: g / s)


@bug("batch_norm", "")
def as_in_training(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, always=True)


@bug("batch_norm", "1/N")
def parameters_averaged(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, total=np.mean)


@bug("batch_norm", "wrong axis")
def each_picture_alone(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, axes=(1, 2))


@bug("batch_norm", "wrong axis")
def over_channels(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, training, eps, axes=3)


@bug("batch_norm", "centring, projection, wrong axis")
def backward_of_each_picture(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    one = lambda a: a.mean((1, 2), keepdims=True)
    dx = lambda g, n, s: (g - one(g) - n * one(g * n)) / s
    return norm(x, weight, bias, running_mean, running_var, training, eps, dx)


@bug("batch_norm", "mask")
def running_in_training(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    return norm(x, weight, bias, running_mean, running_var, False, eps)


@bug("batch_norm", "")
def running_variance_biased(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    y, backward = norm(x, weight, bias, running_mean, running_var, training, eps)
    biased = running_var - mean((x - mean(x)) ** 2) if training else 0 * running_var

    def other(dy):
        dx, grads = backward(dy)
        return dx, grads | {"running_var": biased}

    return y, other
