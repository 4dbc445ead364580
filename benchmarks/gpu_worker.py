"""One side of benchmarks/gpu.py, in a process of its own on the graphics card: it does and times what it is told.

A command is a line of JSON on the standard input; an answer is a line of JSON on what was the standard output:

    {"ok": …}    or    {"failed": a sentence, "memory": whether memory ran out, "trace": where a mistake was made}

Whatever fails, the next command is still answered. After each command memory that is only kept for later is given
back, so that sides can take turns on one card.
"""

import functools
import gc
import json
import os
import sys
import time
import traceback

from cpu_worker import CASES as SMALL
from cpu_worker import GRADIENTS, SETTINGS, case, inputs

CASES = {  # title, its name in cpu_worker.CASES, batch (None: as there)
    "default": ("the default emoji preset, batch 256", "a", None),
    "vit-tiny": (f"{SMALL['b'][0]}, batch 128", "b", None),
    "b32-256": ("ViT-B/32 at 224 px, batch 256", "c", 256),
    "b32-1024": ("ViT-B/32 at 224 px, batch 1,024", "c", 1024),
}


def model(name, quick=False):
    """(config, batch) of one of CASES; quick: the batch is 8."""
    _, small, batch = CASES[name]
    _, config, usual, _ = case(small, quick)
    return config, usual if quick else batch or usual


@functools.lru_cache(maxsize=1)
def drawn(name, quick):
    """(params, images, tokens) on the host, from one seed; the last ones are kept."""
    return inputs(*model(name, quick))


def gpu_step(state, precision, update=True):
    """One training step of `Ours` in a precision: everything that belongs to mixed precision is here.

    float32 and TF32 differ in how products are computed. In bfloat16 the encoders run on a rounded copy of the
    parameters and the pictures; features, loss, the sum of gradients and AdamW are float32 (see miniclip/half.py).
    update: whether AdamW takes its step. Returns the loss, on the card.
    """
    from miniclip.gpu.matmul import precision as set_precision
    from miniclip.train_step import loss_and_gradient

    with set_precision(precision) as dtype:
        half = {}
        if dtype != state.params.vector.dtype:
            from miniclip.gpu.mixed_precision import half_encoders

            half = {"encoders_of": half_encoders(dtype)}
        result = loss_and_gradient(
            state.params.tree, state.shards, state.config, state.gradient, map, state.recompute, **half
        )
        if update:
            state.optimizer.step(state.gradient, SETTINGS["learning_rate"])
        return result["loss"]


class Ours:
    """miniclip's step on the card. The batch is one shard; parts: several, of which activations are not kept."""

    def __init__(self, name, precision, quick=False, parts=1):
        import numpy as np

        from miniclip.gpu import usable_cupy
        from miniclip.optim import AdamW
        from miniclip.tree import Flat, to_device

        self.xp, self.precision, self.recompute = usable_cupy(), precision, parts > 1
        self.config = model(name, quick)[0]
        params, images, tokens = drawn(name, quick)
        self.shards = [
            (self.xp.asarray(part), words)
            for part, words in zip(np.array_split(images, parts), np.array_split(tokens, parts))
        ]
        self.params = Flat(to_device(params, "gpu"))
        self.gradient = self.params.like(self.xp.zeros_like(self.params.vector))
        beta1, beta2 = SETTINGS["betas"]
        self.optimizer = AdamW(self.params, beta1, beta2, SETTINGS["epsilon"], SETTINGS["weight_decay"], clip=None)

    def step(self):
        return gpu_step(self, self.precision)

    def loss_and_gradient(self):
        """The loss and {name: gradient}, on the host."""
        from miniclip.tree import flatten

        loss = float(gpu_step(self, self.precision, update=False))
        leaves = flatten(self.gradient.tree)
        return loss, {name: leaves[name].get() for name in GRADIENTS if name in leaves}

    def finish(self):
        self.xp.cuda.Device().synchronize()

    def release(self):
        gc.collect()
        self.xp.get_default_memory_pool().free_all_blocks()

    def memory(self):
        """(most bytes in use during a step, bytes that the pool held for it)"""
        pool = self.xp.get_default_memory_pool()

        class Peak(self.xp.cuda.MemoryHook):
            name, used, most = "peak", pool.used_bytes(), pool.used_bytes()

            def malloc_postprocess(self, **block):
                self.used += block["mem_size"]
                self.most = max(self.most, self.used)

            def free_postprocess(self, **block):
                self.used -= block["mem_size"]

        with Peak() as peak:
            self.step()
            self.finish()
        return peak.most, pool.total_bytes()


class Peer:
    """PyTorch's step on the card, eager or compiled."""

    def __init__(self, name, precision, quick=False, compiled=False):
        import peers_torch

        from miniclip.tree import flatten

        self.torch = peers_torch.torch
        if not self.torch.cuda.is_available():
            raise ValueError("PyTorch finds no graphics card")
        self.torch.compiler.reset()  # or a second batch size is compiled for any size, and slower
        params, images, tokens = drawn(name, quick)
        self.runner = peers_torch.Torch(
            flatten(params),
            images,
            tokens,
            model(name, quick)[0],
            SETTINGS,
            os.cpu_count(),
            compiled,
            "cuda",
            precision,
        )
        self.step = self.runner.step

    def loss_and_gradient(self):
        loss, gradient = self.runner.loss_and_gradient()
        return loss, {name: gradient[name] for name in GRADIENTS if name in gradient}

    def finish(self):
        self.torch.cuda.synchronize()

    def release(self):
        gc.collect()
        self.torch.cuda.empty_cache()

    def memory(self):
        self.torch.cuda.reset_peak_memory_stats()
        self.step()
        self.finish()
        return self.torch.cuda.max_memory_allocated(), self.torch.cuda.max_memory_reserved()


class Worker:
    """What the commands do. Each method is one, and returns what JSON can hold."""

    def __init__(self):
        self.state, self.counted = None, {}

    def card(self):
        """The card and the libraries, in words; ValueError where there is none."""
        import numpy as np

        from miniclip.gpu import usable_cupy

        cupy = usable_cupy()
        card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        name = card["name"].decode() if isinstance(card["name"], bytes) else card["name"]
        return {
            "name": name,
            "memory": int(card["totalGlobalMem"]),
            "driver": cupy.cuda.runtime.driverGetVersion(),
            "cuda": cupy.cuda.runtime.runtimeGetVersion(),
            "cupy": cupy.__version__,
            "numpy": np.__version__,
        }

    def load(self, side, name, precision, quick=False, parts=1):
        """Take up a training state; the former one is dropped first."""
        self.state = None
        gc.collect()
        self.state = (
            Ours(name, precision, quick, parts)
            if side == "ours"
            else Peer(name, precision, quick, compiled=side == "compile")
        )
        return {}

    def check(self, file):
        """The loss, and a few gradients into an .npz file; "seconds" includes compilation."""
        import numpy as np

        start = time.perf_counter()
        loss, gradient = self.state.loss_and_gradient()
        np.savez(file, **gradient)
        return {"loss": loss, "seconds": time.perf_counter() - start}

    def step(self, times=1, warm=1):
        """Seconds of a step, the mean of `times`; the card is waited for only before the first and after the last."""
        for _ in range(warm):  # fetches memory, and with it whatever the first step waits for
            self.state.step()
        self.state.finish()
        start = time.perf_counter()
        for _ in range(times):
            self.state.step()
        self.state.finish()
        return {"seconds": (time.perf_counter() - start) / times}

    def memory(self):
        """Bytes that a step needs at most."""
        used, held = self.state.memory()
        return {"used": int(used), "held": int(held)}

    def waits(self):
        """How often a step makes the host wait for the card, and where from. See gpu_measures.Waits.

        And, of another step, the seconds until all of it was asked for, and until it was done. The first are far fewer
        where nothing waits; but with some thousand launches still to be done the driver itself lets the host wait.
        """
        import gpu_measures

        self.state.step()  # what is compiled on first use does not count
        self.state.finish()
        with gpu_measures.Waits(self.state.xp) as waits:
            self.state.step()
        self.state.finish()
        start = time.perf_counter()
        self.state.step()
        asked = time.perf_counter() - start
        self.state.finish()
        return {
            "count": sum(waits.places.values()),
            "places": dict(waits.places),
            "wrapped": waits.wrapped,
            "asked": asked,
            "done": time.perf_counter() - start,
        }

    def agreement(self, name, dtype, steps, batch):
        """See gpu_measures.agreement."""
        import gpu_measures

        return {"steps": gpu_measures.agreement(model(name)[0], dtype, steps, batch), "batch": batch}

    def products(self, precision, quick=False):
        """TFLOP/s of the fastest square product."""
        import gpu_measures

        return {"tflops": gpu_measures.product_rate(precision, quick)}

    def bandwidth(self, quick=False):
        """Bytes a second of a copy on the card, read and written counted both."""
        import gpu_measures

        return {"bytes_per_second": gpu_measures.bandwidth(quick)}

    def flops(self, name, quick=False):
        """Floating-point operations of a step's products."""
        import gpu_measures

        config, batch = model(name, quick)
        small = CASES[name][1]
        if small not in self.counted:
            self.counted[small] = gpu_measures.operations(config)
        linear, square = self.counted[small]
        return {"step": round(linear * batch + square * batch**2)}


def sentence(error):
    """The last line of an error that says anything, behind its kind; a ValueError speaks for itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[0 if isinstance(error, ValueError) or not lines else -1][:300] if lines else "no words"
    return words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"


def out_of_memory(error):
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__


def serve(worker, commands, answer):
    """Answer each line of `commands` with a call of answer(dict)."""
    for line in commands:
        command = json.loads(line)
        try:
            words = {"ok": getattr(worker, command.pop("do"))(**command)}
        except Exception as error:
            words = {"failed": sentence(error), "memory": out_of_memory(error)}
            if not isinstance(error, (ValueError, ImportError)) and not words["memory"]:
                words["trace"] = traceback.format_exc()[-2000:]  # a mistake; those speak for themselves
        try:
            if worker.state is not None:
                worker.state.release()
        except Exception as error:  # a card that no longer answers says so here as well
            words.setdefault("failed", sentence(error))
            words.setdefault("memory", False)
        answer(words)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def answer(words):
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    serve(Worker(), sys.stdin, answer)


if __name__ == "__main__":
    main()
