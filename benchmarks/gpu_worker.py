"""One side of benchmarks/gpu.py in a process of its own on the graphics card: it does what it is asked, and times it.

A command is a line of JSON on the standard input, an answer a line of JSON on the standard output:

    {"ok": …}    or    {"failed": a sentence, "memory": whether memory ran out, "trace": where the mistake is}

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

import numpy as np
from cases import CASES as SMALL
from cases import GRADIENTS, SETTINGS, TrainingState, case, inputs, split
from cpu_worker import answers
from gpu_measures import Waits, agreement, bandwidth, count_operations, product_rate

from miniclip.gpu import compute_dtype, half_encoders, usable_cupy
from miniclip.gpu import precision as computing_in
from miniclip.tree import flatten, to_device

CASES = {  # title, its name in cases.CASES, batch (None: as there)
    "default": ("the default emoji preset, batch 256", "a", None),
    "vit-tiny": (f"{SMALL['b'].title}, batch 128", "b", None),
    "b32-256": ("ViT-B/32 at 224 px, batch 256", "c", 256),
    "b32-1024": ("ViT-B/32 at 224 px, batch 1,024", "c", 1024),
}


def model(name, quick=False):
    """(config, batch) of one of CASES; quick: the batch is 8."""
    _, small, batch = CASES[name]
    chosen = case(small, quick)
    return chosen.config, chosen.batch if quick else batch or chosen.batch


@functools.lru_cache(maxsize=1)
def host_inputs(name, quick):
    """(params, images, tokens) on the host, from one seed; the last ones are kept."""
    return inputs(*model(name, quick))


class Ours(TrainingState):
    """miniclip's step on the card, the batch as one micro-batch. parts: several, whose activations are recomputed."""

    def __init__(self, name, precision, quick=False, parts=1):
        self.xp, self.precision, dtype = usable_cupy(), precision, compute_dtype(precision)
        options = {"encoders_of": half_encoders(dtype)} if dtype.itemsize == 2 else {}
        params, *batch = host_inputs(name, quick)
        micro_batches = [(self.xp.asarray(images), tokens) for images, tokens in split(*batch, parts)]
        config, _ = model(name, quick)
        super().__init__(to_device(params, "gpu"), micro_batches, config, recompute=parts > 1, **options)

    def differentiate(self):
        with computing_in(self.precision):
            return super().differentiate()

    def loss_and_gradient(self):
        """The loss and {name: gradient}, on the host."""
        loss, leaves = float(self.differentiate()), flatten(self.gradient.tree)
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

        self.torch = peers_torch.torch
        if not self.torch.cuda.is_available():
            raise ValueError("PyTorch finds no graphics card")
        self.torch.compiler.reset()  # or a second batch size is compiled for any size, and slower
        params, *batch = host_inputs(name, quick)
        arguments = flatten(params), *batch, model(name, quick)[0], SETTINGS, os.cpu_count()
        self.runner = peers_torch.Torch(*arguments, compiled, "cuda", precision)
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


class Commands:
    """Each method is a command, and returns what JSON can hold."""

    def __init__(self):
        self.state, self.counted = None, {}

    def card(self):
        """The card and the libraries; ValueError where there is none."""
        cupy = usable_cupy()
        card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return {
            "name": card["name"].decode() if isinstance(card["name"], bytes) else card["name"],
            "memory": int(card["totalGlobalMem"]),
            "driver": cupy.cuda.runtime.driverGetVersion(),
            "cuda": cupy.cuda.runtime.runtimeGetVersion(),
            "cupy": cupy.__version__,
            "numpy": np.__version__,
        }

    def load(self, side, name, precision, quick=False, parts=1):
        """Make a side ready for one case; the former one is dropped first."""
        self.state = None
        gc.collect()
        if side == "ours":
            self.state = Ours(name, precision, quick, parts)
        else:
            self.state = Peer(name, precision, quick, compiled=side == "compile")

    def check(self, file):
        """The loss, and a few gradients into an .npz file; "seconds" includes compilation."""
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
        return (time.perf_counter() - start) / times

    def memory(self):
        """Bytes that a step needs at most."""
        used, held = self.state.memory()
        return {"used": int(used), "held": int(held)}

    def waits(self):
        """How often a step makes the host wait for the card, and where. See gpu_measures.Waits.

        And, of another step, the seconds until all of it was launched, and until it was done. The first are far fewer
        where nothing waits; but with some thousand launches still to be done the driver itself lets the host wait.
        """
        self.state.step()  # what is compiled on first use does not count
        self.state.finish()
        with Waits(self.state.xp) as waits:
            self.state.step()
        self.state.finish()
        start = time.perf_counter()
        self.state.step()
        launched = time.perf_counter() - start
        self.state.finish()
        found = {"count": sum(waits.places.values()), "places": dict(waits.places), "wrapped": waits.wrapped}
        return found | {"launched": launched, "done": time.perf_counter() - start}

    def agreement(self, name, dtype, steps, batch):
        """See gpu_measures."""
        return {"steps": agreement(model(name)[0], dtype, steps, batch), "batch": batch}

    def product_rate(self, precision, quick=False):
        """See gpu_measures."""
        return product_rate(precision, quick)

    def bandwidth(self, quick=False):
        """See gpu_measures."""
        return bandwidth(quick)

    def flops(self, name, quick=False):
        """Floating-point operations of a step's products."""
        (config, batch), small = model(name, quick), CASES[name][1]
        if small not in self.counted:
            self.counted[small] = count_operations(config)
        linear, square = self.counted[small]
        return round(linear * batch + square * batch**2)


def sentence(error):
    """The last line of an error that says anything, behind its kind; a ValueError speaks for itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if isinstance(error, ValueError):
        return lines[0][:300]
    return f"{type(error).__name__}: {lines[-1][:300]}"


def answer_to(commands, do, **arguments):
    """The answer to one command, whatever happens."""
    try:
        answer = {"ok": getattr(commands, do)(**arguments)}
    except Exception as error:
        memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
        answer = {"failed": sentence(error), "memory": memory}
        if not isinstance(error, (ValueError, ImportError)) and not memory:
            answer["trace"] = traceback.format_exc()[-2000:]  # of a mistake; the others speak for themselves
    try:
        if commands.state is not None:
            commands.state.release()
    except Exception as error:  # a card that no longer answers says so here as well
        answer.setdefault("failed", sentence(error))
    return answer


def main():
    """Answer commands until the standard input ends."""
    answer, commands = answers(), Commands()
    for line in sys.stdin:
        answer(answer_to(commands, **json.loads(line)))


if __name__ == "__main__":
    main()
