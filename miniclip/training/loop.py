"""The training loop: draw a batch, differentiate, step; and every so often log, evaluate, keep.

On a graphics card the loop runs ahead of the card: batches are drawn by a thread, and the loss is looked at only
before something is logged, evaluated or kept.
"""

import ctypes
import math
import time
from contextlib import ExitStack, contextmanager

import numpy as np

from ..backend import ALONE, OutOfMemory, array_module, out_of_memory, worker_threads
from ..gpu import Cards, precision
from .config import TrainConfig
from .ranks import threads_of
from .run import Run


def train(
    data,
    config=None,
    evaluations=(),
    out="runs/clip",
    threads=None,
    device="cpu",
    resume=False,
    progress=True,
    phases=None,
    start=None,
    lower_batch=False,
    about=None,
    announce=lambda run: None,
    ranks=ALONE,
):
    """Train CLIP on a PictureSet; returns (CLIP of the averaged parameters, rows of the log).

    config: TrainConfig, or None for the default one; evaluations: list of Evaluation, taken every
    config.evaluate_every steps and at the end; threads: int or None for one a processor, no matter for the result;
    progress: show a bar; phases: a `Phases`, which is told where the time goes; start: None, or a CLIP to fine-tune;
    lower_batch, about, ranks: as for `Run`; announce: called with the `Run` before its first step. Files in `out`: see
    run.py. threads None, among ranks: their share of the processors.
    Raises ValueError for a configuration that does not fit the data or a device that is not there,
    TrainingDiverged, and OutOfMemory, a MemoryError that says what to try.
    """
    from tqdm import tqdm

    config, phase = config or TrainConfig(), phases or Phases()
    keep_freed_memory()
    with ExitStack() as stack, np.errstate(all="ignore"), precision(config.precision, device):
        if device == "gpu" and ranks.size > 1:
            ranks = Cards(ranks)
        pool = stack.enter_context(worker_threads(threads_of(ranks) if threads is None else threads))
        try:
            with phase("getting ready"):
                run = Run(data, config, out, device, resume, start, lower_batch, about, ranks)
                stack.callback(run.folder.close)
            config = run.config
            announce(run)
            if phases:
                phases.wait_for(run.params.vector)
            speed = Speed(run)
            bar = tqdm(
                total=config.steps,
                initial=run.step,
                disable=not progress or ranks.rank > 0,
                unit="step",
                dynamic_ncols=True,
            )
            extras = (
                ("log", config.log_every, lambda: run.folder.note(run.numbers | replaced(run) | speed())),
                ("evaluation", config.evaluate_every, lambda: [bar.write(run.evaluate(exam)) for exam in evaluations]),
                ("checkpoint", config.checkpoint_every, run.checkpoint),
            )
            with run.drawing_ahead(pool.map), bar:
                take_steps(run, extras, pool.map if device == "cpu" else map, phase, bar)
            if warning := run.numbers and learned_nothing(run.folder.rows(), config.batch_size):
                run.folder.note({"step": run.step, "warning": warning})
            with phase("checkpoint"):
                return run.save(), run.folder.rows()
        except MemoryError as error:
            full = out_of_memory(error)  # without the frames, which hold what fills the memory
    micro_batch = min(config.micro_batch, config.batch_size)
    raise OutOfMemory(
        f"{full} Here, a batch of {config.batch_size} in micro-batches of {micro_batch} did not fit: try "
        f"--micro-batch {max(1, micro_batch // 2)} with --recompute, which is another run: choose another --out."
    )


def take_steps(run, extras, map, phase, bar):
    """All steps that are left, with what is due between them.

    run: `Run`; extras: (name, every so many steps, what to call), all of them due at the end as well; map: what works
    on the micro-batches; phase: a `Phases`; bar: tqdm's.
    """
    while run.step < run.config.steps:
        with phase("input"):
            micro_batches = run.draw(map)
        with phase("forward and backward"):
            result = run.differentiate(micro_batches, map)
        with phase("AdamW"):
            run.update(result, micro_batches, map)
        last = run.step == run.config.steps
        due = [(name, extra) for name, every, extra in extras if last or every and run.step % every == 0]
        if due:
            run.look()  # before anything is built on it
        if run.numbers:
            bar.set_postfix(loss=f"{run.numbers['loss']:.3f}", tau=f"{run.numbers['tau']:.3f}", refresh=False)
        bar.update()
        for name, extra in due:
            with phase(name):
                extra()


def learned_nothing(rows, n):
    """A sentence where the last losses in a log are still that of guessing which of n texts belongs to a picture."""
    losses, guessing = [row["loss"] for row in rows if "loss" in row], math.log(n)
    loss = min(losses[-3:], default=0.0)  # one small batch alone may be hard
    if loss < 0.98 * guessing:
        return ""
    kind = "that of" if loss < 1.02 * guessing else "more than that of"
    return (
        f"the loss, {loss:.3f}, is {kind} guessing one of {n} (ln {n} = {guessing:.3f}): the model has learned "
        "nothing here. Try more steps, a lower learning rate, or captions that say more."
    )


def replaced(run):
    """Of tars, how many pairs all ranks have replaced by others since this run went on: {} of other data."""
    counts = getattr(run.batches, "replaced", None)
    if counts is None:
        return {}
    names = "repeated", "unreadable"
    numbers = np.array([counts[name] for name in names])
    run.ranks.add(numbers)
    return {f"replaced/{name}": int(number) for name, number in zip(names, numbers)}


class Speed:
    """Examples a second since it was last asked."""

    def __init__(self, run):
        self.run, self.began, self.since = run, time.perf_counter(), run.step

    def __call__(self):
        now, step = time.perf_counter(), self.run.step
        rate = (step - self.since) * self.run.config.batch_size / (now - self.began)
        self.began, self.since = now, step
        return {"examples_per_second": rate}


class Phases:
    """Seconds of wall time of each phase of a run: `with phase("input"): …`; `str` is a table of them.

    On a graphics card, where work is only launched, a phase ends when the card is done with it.
    """

    def __init__(self):
        self.seconds, self.started, self.wait = {}, time.perf_counter(), lambda: None

    def wait_for(self, array):
        """Wait, at the end of each phase, for the device of this array."""
        xp = array_module(array)
        if xp is not np:
            self.wait = xp.cuda.get_current_stream().synchronize

    @contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        try:
            yield
        finally:
            self.wait()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def __str__(self):
        total = time.perf_counter() - self.started
        rows = sorted(self.seconds.items(), key=lambda row: -row[1])
        rows += [("the rest", total - sum(self.seconds.values())), ("together", total)]
        return "\n".join(f"{name:24} {seconds:9.2f} s {seconds / total:7.1%}" for name, seconds in rows)


def keep_freed_memory(heaps=1):
    """Ask the C library to keep large arrays that are freed for those that come next, where it is glibc.

    It would give each back to the system and fetch new, empty pages for the next: a training step, which makes the
    same arrays again and again, then spends much of its time on page faults. heaps: how many the threads share.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mmap_threshold, trim_threshold, arenas = -3, -1, -8  # malloc.h
    mallopt(arenas, heaps)
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
