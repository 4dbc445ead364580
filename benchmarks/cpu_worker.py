"""One side of benchmarks/cpu.py, in a process of its own: it loads, then does and times what it is told.

A command is a line of JSON on the standard input, an answer a line of JSON on what was the standard output:

    {"do": "step" | "encode", "times": n}    -> {"seconds": of one, the mean of n}
    {"do": "check", "file": path}            -> {"loss": …}, and a few gradients in an .npz file
    {"do": "memory"}                         -> {"bytes": the most memory that this process ever had}

Between commands it sleeps, so that sides can take turns on the same processors. All sides make the same
parameters, pictures and texts from one seed. The texts fill the context: nobody gains by leaving out padding.
"""

import json
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SETTINGS = {"learning_rate": 1e-4, "betas": (0.9, 0.98), "epsilon": 1e-6, "weight_decay": 0.1}
CASES = {  # title, model or config, batch, and the shard size of miniclip
    "a": ("the default emoji preset: CLIP's ResNet, small, at 32 px", None, None, None),
    "b": ("ViT at 32 px, patch 4, width 128, 4 layers", "vit-tiny", 128, 32),
    "c": (
        "ViT-B/32 at 224 px, 12 + 12 layers, context 77",
        {
            "embed_dim": 512,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        },
        16,
        8,
    ),
}
# Compared before anything is timed, where the model has them: from the top of both towers and from their bottom.
GRADIENTS = (
    "logit_scale",
    "text_projection",
    "token_embedding.weight",
    "transformer.resblocks.0.attn.in_proj_weight",
    "transformer.resblocks.1.mlp.c_fc.weight",
    "visual.proj",
    "visual.conv1.weight",
    "visual.class_embedding",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.1.ln_2.bias",
    "visual.attnpool.v_proj.weight",
    "visual.layer1.0.conv2.weight",
    "visual.layer3.0.bn2.weight",
)


def case(name, quick=False):
    """(title, config, batch, shard) of one of CASES; quick: a batch of 8."""
    from miniclip.model import model_config
    from miniclip.training.config import preset

    title, model, batch, shard = CASES[name]
    if model is None:
        recipe = preset("default")
        config = model_config(recipe.model, vocab_size=recipe.vocabulary, context_length=recipe.context)
        batch, shard = recipe.batch, recipe.shard
    else:
        config = model_config(model) if isinstance(model, str) else model
    return title, config, *((8, 4) if quick else (batch, shard))


def inputs(config, batch):
    """Parameters (a tree), images (N, 3, S, S) and tokens (N, T) of full length, from one seed."""
    import numpy as np

    from miniclip.model import initialize
    from miniclip.tree import tree_map

    rng = np.random.default_rng(1)

    def shift(leaf):  # gains of 1 or 0 and biases of 0 would hide mistakes
        return leaf + 0.1 * rng.random(leaf.shape, np.float32) if leaf.ndim == 1 else leaf

    size, text = config["vision_cfg"]["image_size"], config["text_cfg"]
    tokens = rng.integers(1, text["vocab_size"] - 1, (batch, text["context_length"]))
    tokens[:, -1] = text["vocab_size"] - 1
    images = rng.standard_normal((batch, 3, size, size), np.float32)
    return tree_map(shift, initialize(config, seed=0)), images, tokens


class Ours:
    """miniclip's step as train.py takes it: shards on a pool, BLAS at one thread, AdamW over one vector."""

    def __init__(self, params, images, tokens, config, shard, pool):
        import numpy as np

        from miniclip.optim import AdamW
        from miniclip.tree import Flat

        self.config, self.map = config, pool.map
        self.whole = [(images, tokens)]
        parts = -(-len(images) // shard)
        self.shards = list(zip(np.array_split(images, parts), np.array_split(tokens, parts)))
        self.params = Flat(params)
        self.gradient = self.params.like(np.empty_like(self.params.vector))
        beta1, beta2 = SETTINGS["betas"]
        self.optimizer = AdamW(self.params, beta1, beta2, SETTINGS["epsilon"], SETTINGS["weight_decay"], clip=None)

    def loss_and_gradient(self):
        """The loss and {name: gradient} of the batch as one shard, as its peers have it."""
        from miniclip.train_step import loss_and_gradient
        from miniclip.tree import flatten

        loss = loss_and_gradient(self.params.tree, self.whole, self.config, self.gradient)["loss"]
        return float(loss), flatten(self.gradient.tree)

    def step(self):
        """The loss, its gradient, AdamW, and the temperature's bound."""
        from miniclip.train_step import loss_and_gradient

        result = loss_and_gradient(self.params.tree, self.shards, self.config, self.gradient, self.map)
        self.optimizer.step(self.gradient, SETTINGS["learning_rate"], self.map)
        return float(result["loss"])

    def encode(self):
        """Both embeddings, shard by shard, what the backward would need being forgotten."""
        import numpy as np

        from miniclip.layers import l2_normalize
        from miniclip.model import encode_image, encode_text

        def embed(shard):
            images, tokens = shard
            return (
                encode_image(self.params.tree, images, self.config)[0],
                encode_text(self.params.tree, tokens, self.config)[0],
            )

        return [l2_normalize(np.concatenate(z))[0] for z in zip(*self.map(embed, self.shards))]


class Floor:
    """The matrix products of `Ours` and nothing else, on arrays that are there already, on the same pool."""

    def __init__(self, ours, pool):
        self.pool, self.local = pool, threading.local()
        self.phases = {"step": products_of(ours, "step"), "encode": products_of(ours, "encode")}
        self.step, self.encode = (lambda: self.run("step")), (lambda: self.run("encode"))

    def run(self, what):
        for tasks in self.phases[what]:
            list(self.pool.map(self.multiply, tasks))

    def multiply(self, products):
        import numpy as np

        arrays = self.local.__dict__.setdefault("arrays", {})
        for product in products:
            if product not in arrays:
                a, b = (laid_out(*operand) for operand in product)
                arrays[product] = a, b, a @ b
            a, b, out = arrays[product]
            np.matmul(a, b, out=out)

    def flops(self, what):
        """Floating-point operations, two for each multiplication."""
        return sum(flops(product) for tasks in self.phases[what] for task in tasks for product in task)


def laid_out(shape, strides):
    """A float32 array of random numbers with these strides (in bytes, none negative)."""
    import numpy as np

    extent = sum((length - 1) * stride for length, stride in zip(shape, strides)) // 4 + 1
    memory = np.random.default_rng(0).standard_normal(extent, np.float32)
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


def flops(product):
    """2 · batch · M · K · N of ((…, M, K), (…, K, N))."""
    import numpy as np

    (a, _), (b, _) = product
    return 2 * int(np.prod(np.broadcast_shapes(a[:-2], b[:-2]), dtype=np.int64)) * a[-2] * a[-1] * b[-1]


def products_of(ours, what):
    """[phase: [task: [((shape, strides), (shape, strides)) of each matrix product]]] of one step or encoding.

    Parameters, pictures and all that comes of them are arrays that write down what is multiplied with
    what. A product with a vector is a sum and does not count.
    """
    import numpy as np

    from miniclip.train_step import loss_and_gradient
    from miniclip.tree import tree_map

    products, phases = [], []

    class Recorded(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *operands, out=None, **options):
            def plain(x):
                return x.view(np.ndarray) if isinstance(x, Recorded) else x

            operands = [plain(x) for x in operands]
            if out is not None:
                options["out"] = tuple(plain(x) for x in out)
            if ufunc is np.matmul and min(x.ndim for x in operands) > 1:
                products.append(tuple((x.shape, x.strides) for x in operands))
            result = getattr(ufunc, method)(*operands, **options)
            return result.view(Recorded) if isinstance(result, np.ndarray) else result

    def recorded(array):
        return array.view(Recorded)

    def take():  # what was multiplied since the last time
        taken = list(products)
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

    params = tree_map(recorded, ours.params.tree)
    shards = [(recorded(images), tokens) for images, tokens in ours.shards]
    if what == "step":
        loss_and_gradient(params, shards, ours.config, ours.gradient, map_and_record)
    else:
        from miniclip.model import encode_image, encode_text

        def embed(images, tokens):
            encode_image(params, images, ours.config)
            encode_text(params, tokens, ours.config)

        map_and_record(embed, *zip(*shards))
    phases.append([take()])
    return [[task for task in tasks if task] for tasks in phases if any(tasks)]


def load(side, name, threads, shard, quick, pool):
    """(the side, ready to run; a dict of what it says of itself)"""
    import numpy as np
    from threadpoolctl import threadpool_info

    from miniclip.tree import flatten

    _, config, batch, usual = case(name, quick)
    params, images, tokens = inputs(config, batch)
    if side in ("torch", "compile"):
        import peers_torch

        return peers_torch.Torch(
            flatten(params), images, tokens, config, SETTINGS, threads, compiled=side == "compile"
        ), {"about": peers_torch.about()}
    if side == "jax":
        import peers_jax

        return peers_jax.Jax(flatten(params), images, tokens, config, SETTINGS), {"about": peers_jax.about()}
    ours = Ours(params, images, tokens, config, shard or usual, pool)
    if side == "floor":
        floor = Floor(ours, pool)
        return floor, {"flops": {what: floor.flops(what) for what in floor.phases}}
    blas = [
        f"{info['internal_api']} {info['version']}, {info.get('architecture', '?')} kernels"
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]
    return ours, {"about": f"NumPy {np.__version__}, {'; '.join(blas)}", "shard": shard or usual}


def most_memory():
    """Bytes. ru_maxrss may hold what the parent had before this process was born, so ask Linux first."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(side, name, threads, shard, quick):
    """Answer commands until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    if hasattr(os, "sched_setaffinity"):  # every side has these processors and no more
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import numpy as np

    from miniclip.backend import keep_freed_memory, worker_threads

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    _, _, trick = side.partition("without ")  # see tricks.py, which undoes them one at a time
    if side in ("ours", "beside") or trick not in ("", "heap", "arenas"):
        keep_freed_memory()
    elif trick == "arenas":
        keep_freed_memory(heaps=threads + 1)
    if trick:
        from tricks import ALL

        undo = ALL[trick][3]
        if undo:
            undo()
    workers = worker_threads(threads)
    if trick == "pool":
        workers, shard = ThreadPoolExecutor(1), 1 << 30
    with workers as pool:
        runner, about = load(side, name, threads, shard, quick, pool)
        answer(**about)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "check":
                loss, gradient = runner.loss_and_gradient()
                np.savez(command["file"], **{key: gradient[key] for key in GRADIENTS if key in gradient})
                answer(loss=loss)
            elif command["do"] == "memory":
                answer(bytes=most_memory())
            else:
                run, start = getattr(runner, command["do"]), time.perf_counter()
                for _ in range(command["times"]):
                    run()
                answer(seconds=(time.perf_counter() - start) / command["times"])


if __name__ == "__main__":
    side, name, threads, shard, quick = sys.argv[1:]
    serve(side, name, int(threads), int(shard), quick == "True")
