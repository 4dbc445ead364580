"""The matrix products of a training step alone: counted, and run as a lower bound of its time."""

import threading

import numpy as np

from miniclip.model import encode_image, encode_text
from miniclip.train_step import loss_and_gradient
from miniclip.tree import tree_map


class Floor:
    """The matrix products of a `TrainingState` and nothing else, on arrays that are there already, on its pool."""

    def __init__(self, state):
        self.map, self.local = state.map, threading.local()
        self.phases = {what: products_of(state, what) for what in ("step", "encode")}

    def step(self):
        self.run("step")

    def encode(self):
        self.run("encode")

    def run(self, what):
        for tasks in self.phases[what]:
            list(self.map(self.multiply, tasks))

    def multiply(self, products):
        arrays = self.local.__dict__.setdefault("arrays", {})
        for product in products:
            if product not in arrays:
                a, b = (laid_out(*operand) for operand in product)
                arrays[product] = a, b, a @ b
            a, b, out = arrays[product]
            np.matmul(a, b, out=out)


def laid_out(shape, strides):
    """A float32 array of random numbers with these strides (in bytes, none negative)."""
    extent = sum((length - 1) * stride for length, stride in zip(shape, strides)) // 4 + 1
    memory = np.random.default_rng(0).standard_normal(extent, np.float32)
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


def operations(phases):
    """Floating-point operations of what `products_of` returns: 2 · stack · M · K · N of ((…, M, K), (…, K, N))."""
    count = 0
    for (a, _), (b, _) in (product for tasks in phases for task in tasks for product in task):
        count += 2 * int(np.prod(np.broadcast_shapes(a[:-2], b[:-2]), dtype=np.int64)) * a[-2] * a[-1] * b[-1]
    return count


def products_of(state, what="step"):
    """[phase: [task: [((shape, strides), (shape, strides)) of each matrix product]]] of one step or encoding.

    Parameters and pictures, and all that is computed from them, are arrays that record what is multiplied with what.
    A product with a vector is a sum and does not count.
    """
    products, phases = [], []

    def plain(x):
        return x.view(np.ndarray) if isinstance(x, Recorded) else x

    class Recorded(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *operands, out=None, **options):
            operands = [plain(x) for x in operands]
            if out is not None:
                options["out"] = tuple(plain(x) for x in out)
            if ufunc is np.matmul and min(x.ndim for x in operands) > 1:
                products.append(tuple((x.shape, x.strides) for x in operands))
            result = getattr(ufunc, method)(*operands, **options)
            return result.view(Recorded) if isinstance(result, np.ndarray) else result

    def take():
        """What was multiplied since the last time."""
        taken = products.copy()
        products.clear()
        return taken

    def map_and_record(f, *sequences):
        phases.append([take()])
        results, tasks = [], []
        for arguments in zip(*sequences):
            results.append(f(*arguments))
            tasks.append(take())
        phases.append(tasks)
        return results

    def encode(images, tokens):
        encode_image(params, images, state.config)
        encode_text(params, tokens, state.config)

    params = tree_map(lambda leaf: leaf.view(Recorded), state.params.tree)
    micro_batches = [(images.view(Recorded), tokens) for images, tokens in state.micro_batches]
    if what == "step":
        loss_and_gradient(params, micro_batches, state.config, state.gradient, map_and_record)
    else:
        map_and_record(encode, *zip(*micro_batches))
    phases.append([take()])
    return [[task for task in tasks if task] for tasks in phases if any(tasks)]
