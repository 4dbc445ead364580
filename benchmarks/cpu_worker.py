"""One side of benchmarks/cpu.py in a process of its own: it does what it is asked, and times it.

A command is a line of JSON on the standard input, an answer a line of JSON on the standard output:

    {"do": "about"}                          -> {"about": versions} and, of some sides, "micro_batch" or "flops"
    {"do": "step" | "encode", "times": n}    -> {"seconds": of one, the mean of n}
    {"do": "check", "file": path}            -> {"loss": …}, and a few gradients in an .npz file
    {"do": "memory"}                         -> {"bytes": the most memory that this process ever had}

Between commands it sleeps, so that sides can take turns on the same processors.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from cases import GRADIENTS, SETTINGS, TrainingState, case, inputs, split
from floor import Floor, operations
from threadpoolctl import threadpool_info

from miniclip import backend, training
from miniclip.layers import l2_normalize
from miniclip.model import encode_image, encode_text
from miniclip.tree import flatten


class Ours(TrainingState):
    """miniclip's step as the training loop takes it: micro-batches on a pool, BLAS at one thread."""

    def __init__(self, params, images, tokens, config, micro_batch, pool):
        super().__init__(params, split(images, tokens, -(-len(images) // micro_batch)), config, pool.map)
        self.whole = [(images, tokens)]

    def loss_and_gradient(self):
        """The loss and {name: gradient} of the batch as one micro-batch: a ResNet's norms depend on it."""
        return float(self.differentiate(self.whole)), flatten(self.gradient.tree)

    def encode(self):
        """Unit embeddings of pictures and texts; what the backward would need is forgotten."""

        def embed(micro_batch):
            images, tokens = micro_batch
            image_features, _ = encode_image(self.params.tree, images, self.config)
            return image_features, encode_text(self.params.tree, tokens, self.config)[0]

        features = zip(*self.map(embed, self.micro_batches))
        return [l2_normalize(np.concatenate(some))[0] for some in features]


def load(side, name, threads, micro_batch, quick, pool):
    """(a side, ready to run; what the report says of it, a dict)"""
    chosen = case(name, quick)
    params, images, tokens = inputs(chosen.config, chosen.batch)
    arguments = flatten(params), images, tokens, chosen.config, SETTINGS
    if side in ("torch", "compile"):
        import peers_torch

        return peers_torch.Torch(*arguments, threads, compiled=side == "compile"), {"about": peers_torch.about()}
    if side == "jax":
        import peers_jax

        return peers_jax.Jax(*arguments), {"about": peers_jax.about()}
    micro_batch = micro_batch or chosen.micro_batch
    ours = Ours(params, images, tokens, chosen.config, micro_batch, pool)
    if side == "floor":
        floor = Floor(ours)
        return floor, {"flops": {what: operations(phases) for what, phases in floor.phases.items()}}
    blas = [
        f"{info['internal_api']} {info['version']}, {info.get('architecture', '?')} kernels"
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]
    return ours, {"about": f"NumPy {np.__version__}, {'; '.join(blas)}", "micro_batch": micro_batch}


def most_memory():
    """Bytes. ru_maxrss may hold what the parent had before this process was started, so ask Linux first."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def answers():
    """A function that writes one answer. What a library prints goes to the standard error from now on."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message):
        output.write(json.dumps(message) + "\n")
        output.flush()

    return answer


def main(side, name, threads, micro_batch, quick, trick):
    """Answer commands until the standard input ends. trick: one of tricks.py that is changed, or None."""
    answer = answers()
    if trick:
        from tricks import TRICKS

        TRICKS[trick].change()
    if side in ("ours", "beside"):
        training.keep_freed_memory()
    with backend.worker_threads(threads) as pool:
        runner, about = load(side, name, threads, micro_batch, quick, pool)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "about":
                answer(about)
            elif command["do"] == "check":
                loss, gradient = runner.loss_and_gradient()
                np.savez(command["file"], **{key: gradient[key] for key in GRADIENTS if key in gradient})
                answer({"loss": loss})
            elif command["do"] == "memory":
                answer({"bytes": most_memory()})
            else:
                run, start = getattr(runner, command["do"]), time.perf_counter()
                for _ in range(command["times"]):
                    run()
                answer({"seconds": (time.perf_counter() - start) / command["times"]})


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
