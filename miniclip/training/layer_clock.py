"""Where the processor's time of a training step goes: by layer, forward and backward apart.

Python tells of every function that is entered and left, in the threads too. A layer is a function that defines
`backward`; what else it calls, NumPy and small helpers, is its own, and what another layer does for it is that
layer's: a convolution's product in the forward pass is `linear`'s.

On a graphics card the clock waits at every boundary, and wall time stands for processor time.
"""

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from .clock import waiting

HERE = str(Path(__file__).parent)


class LayerClock:
    """Processor time of each layer's own code.

    `spent`: {(layer, "forward" or "backward"): [calls, seconds]}; `watched(f)` is f, watched, and may run in any
    thread; wait: as `waiting` gives it.
    """

    def __init__(self, wait=None):
        self.spent, self.wait, self.names, self.lock = defaultdict(lambda: [0, 0.0]), wait, {}, threading.Lock()
        self.steps, self.slower = 1, 0.0

    def now(self):
        """Seconds: of this thread's processor, or on the wall once the card is done."""
        if self.wait is None:
            return time.thread_time()
        self.wait()
        return time.perf_counter()

    def watched(self, f):
        """f, with its layers watched."""

        def run(*args):
            mine = [("outside of layers", "forward")]  # who is at work, and who waits for it
            spent, last = defaultdict(lambda: [0, 0.0]), self.now()

            def hook(frame, event, _):
                nonlocal last
                if event == "call":
                    layer = self._layer(frame.f_code)
                    if layer:
                        now = self.now()
                        spent[mine[-1]][1] += now - last
                        last = now
                        spent[layer][0] += 1
                    mine.append(layer or mine[-1])
                elif event == "return" and len(mine) > 1:
                    done = mine.pop()
                    if done != mine[-1]:
                        now = self.now()
                        spent[done][1] += now - last
                        last = now

            before = sys.getprofile()
            sys.setprofile(hook)
            try:
                return f(*args)
            finally:
                sys.setprofile(before)
                spent[mine[0]][1] += self.now() - last
                with self.lock:
                    for layer, (calls, seconds) in spent.items():
                        self.spent[layer][0] += calls
                        self.spent[layer][1] += seconds

        return run

    def _layer(self, code):
        """(name, "forward" or "backward") of a function that is a layer of this package, None of any other."""
        if id(code) not in self.names:  # id: Python would hash the whole code each time
            self.names[id(code)] = _name(code), code
        return self.names[id(code)][0]

    def __str__(self):
        total = sum(seconds for _, seconds in self.spent.values())
        cost = {
            name: sum(self.spent.get((name, way), (0, 0.0))[1] for way in ("forward", "backward"))
            for name, _ in self.spent
        }
        kind = "processor" if self.wait is None else "card's"
        lines = [
            f"{f'{kind} time by layer, own code only':36} {'forward: calls':>14} {'ms a step':>10} "
            f"{'backward: calls':>15} {'ms a step':>10} {'share':>7}"
        ]
        for name in sorted(cost, key=lambda name: -cost[name]):
            calls, ms = zip(
                *(
                    (spent[0] / self.steps, 1e3 * spent[1] / self.steps)
                    for spent in (self.spent.get((name, way), (0, 0.0)) for way in ("forward", "backward"))
                )
            )
            lines.append(
                f"{name:36} {calls[0]:14.0f} {ms[0]:10.2f} {calls[1]:15.0f} {ms[1]:10.2f} {cost[name] / total:7.1%}"
            )
        lines.append(
            f"Of {self.steps} steps after the last, whose gradients were thrown away; watching made them "
            f"{max(self.slower, 0):.1%} slower."
        )
        return "\n".join(lines)


def _name(code):
    if not code.co_filename.startswith(HERE):
        return None
    name, *inner = code.co_qualname.split(".<locals>.")
    if inner and inner[-1] == "backward":
        return name, "backward"
    if not inner and any(getattr(constant, "co_name", "") == "backward" for constant in code.co_consts):
        return name, "forward"
    return (name, "forward") if not inner and name in ("augment", "mix", "normalize") else None


def measure_layers(run, mapping, steps=5):
    """A `LayerClock` of some more steps of a training run, as far as the gradient: nothing that is kept changes.

    Each step is taken twice, watched and not, which tells what watching costs.
    """
    layers = LayerClock(waiting(run.params.vector))

    def watching(f, *iterables):
        return mapping(layers.watched(f), *iterables)

    def a_step(step, mapping):
        shards = run.draw(step, mapping)
        run.differentiate(shards, mapping)

    def cost(f, *args):
        start = time.process_time() if layers.wait is None else layers.now()
        f(*args)
        return (time.process_time() if layers.wait is None else layers.now()) - start

    a_step(run.step, mapping)  # the first is never like the others
    plain = watched = 0.0
    for step in range(run.step, run.step + steps):
        plain += cost(a_step, step, mapping)
        watched += cost(layers.watched(a_step), step, mapping if mapping is map else watching)
    layers.steps, layers.slower = steps, watched / plain - 1
    return layers
