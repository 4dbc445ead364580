"""Where the wall time of a training run goes: by phase of the step (by layer: see layer_clock.py).

`Clock` measures wall time from outside. It stands around the methods of one run and around the `map` that a
step is given, whose functions have names: forward, pull_back, add_up. What a phase calls that is a phase itself
is not counted twice. A run without a clock does nothing for it.

On a graphics card work is only launched, so every boundary first waits for the card, which costs some speed.
"""

import time
from contextlib import contextmanager

from ..backend import array_module

PHASES = {"forward": "embedding, forward", "pull_back": "pulling back", "add_up": "adding up gradients"}
INPUT = "input: drawing, augmentation, batching"
DATA = "input: reading and decoding the pictures"
READY = "getting ready: tokenizer, small pictures, …"
LOSS = "the loss and its gradient"
ROWS = [
    DATA,
    READY,
    INPUT,
    PHASES["forward"],
    LOSS,
    PHASES["pull_back"],
    PHASES["add_up"],
    "gradient norm",
    "AdamW",
    "checks and log",
    "checkpoint",
    "evaluation",
    "the rest",
]


class Clock:
    """Seconds of wall time for each phase, in `seconds`, from when the clock was made until `stop`."""

    def __init__(self):
        self.last = time.perf_counter()
        self.seconds = dict.fromkeys(ROWS, 0.0)
        self.phases, self.wait, self.steps, self.layers, self.stopped = ["the rest"], None, 0, None, False

    @contextmanager
    def phase(self, name):
        """What is done in here counts for this phase, and not for the one around it."""
        self._turn()
        self.phases.append(name)
        try:
            yield
        finally:
            self._turn()
            self.phases.pop()

    def _turn(self):
        """Add what has passed since the last turn to the phase of now."""
        if self.stopped:
            return
        if self.wait:
            self.wait()
        now = time.perf_counter()
        self.seconds[self.phases[-1]] += now - self.last
        self.last = now

    def timed(self, name, f):
        """f, counted for a phase."""

        def run(*args, **options):
            with self.phase(name):
                return f(*args, **options)

        return run

    def map(self, mapping):
        """A `map` that counts each function by its name, as `PHASES` has it; others for the phase around them.

        As lazy as the one it stands for: what is asked for is counted, and asking.
        """

        def run(f, *iterables):
            name = PHASES.get(getattr(f, "__name__", ""))
            if name is None:
                return mapping(f, *iterables)
            with self.phase(name):
                results = iter(mapping(f, *iterables))
            return self._each(name, results)

        return run

    def _each(self, name, results):
        done = object()
        while True:
            with self.phase(name):
                result = next(results, done)
            if result is done:
                return
            yield result

    def watch(self, run):
        """Stand around the methods of a training run."""
        self.wait = waiting(run.params.vector)
        for name, phase in (
            ("draw", INPUT),
            ("differentiate", PHASES["add_up"]),
            ("look", "checks and log"),
            ("evaluate", "evaluation"),
            ("checkpoint", "checkpoint"),
        ):
            setattr(run, name, self.timed(phase, getattr(run, name)))
        run.loss = self._timed_loss(run.loss)
        run.log.add = self.timed("checks and log", run.log.add)
        run.optimizer.gradient_norm = self.timed("gradient norm", run.optimizer.gradient_norm)
        run.optimizer.step = self.timed("AdamW", run.optimizer.step)
        run.advance = self._counted(run.advance)

    def _timed_loss(self, loss):
        def run(*args):
            with self.phase(LOSS):
                value, backward = loss(*args)
            return value, self.timed(LOSS, backward)

        return run

    def _counted(self, advance):
        def run(map):
            advance(map)
            self.steps += 1

        return run

    def stop(self):
        """The end of the run: from now on nothing is counted."""
        self._turn()
        self.stopped = True

    def input_share(self):
        """The part of the wall time, 0..1, that the input side took: reading the data and making batches."""
        return (self.seconds[INPUT] + self.seconds[DATA]) / sum(self.seconds.values())

    def __str__(self):
        total, steps = sum(self.seconds.values()), max(self.steps, 1)
        lines = [f"{'where the time goes, on the wall':44} {'seconds':>9} {'ms a step':>10} {'share':>7}"]
        for name, seconds in filter(lambda row: row[1], self.seconds.items()):
            lines.append(f"{name:44} {seconds:9.2f} {1e3 * seconds / steps:10.2f} {seconds / total:7.1%}")
        lines.append(f"{'together':44} {total:9.2f} {1e3 * total / steps:10.2f} {1:7.1%}")
        lines.append(f"input side {self.input_share():.1%} of wall time")
        return "\n".join(lines) + (f"\n\n{self.layers}" if self.layers else "")


def waiting(array):
    """What waits for all work on the device of `array`, or None where there is nothing to wait for."""
    xp = array_module(array)
    return xp.cuda.get_current_stream().synchronize if xp.__name__ == "cupy" else None
