"""The next batch, drawn and copied while the graphics card works on this one.

    a thread of its own    draw step s+1 · into pinned memory · copy on a second stream · event "copied"
    the main thread        (wait for "copied", on the card) · launch step s+1 · event "used" · ask for step s+2

The main thread never waits for the card. What it waits for, where drawing is the slower, is the drawing.

Why nothing is read too late or overwritten too early. There are two slots, each of one pinned array on the machine
and one array on the card, which live as long as the run: so CuPy's pool, which hands a freed array to the next that
asks on the same stream, whoever may still read it on another, is never asked. A slot is written again only when

  - its pinned array has been read: the drawing thread waits on the host for the "copied" of two steps ago;
  - its array on the card has been read: the second stream waits, on the card, for its "used", which the main
    thread recorded after it had launched all of that step, before it asked for the next batch. (The first
    time, "used" stands where the array was made: its memory may have come from work that still runs.)

And the slots are let go only when the second stream has come to rest.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


@dataclass
class Slot:
    """Room for the pictures of one batch: on the machine, on the card, and how far each has come."""

    pinned: object  # (N, 3, S, S) float32, NumPy, in pages that the card can read by itself
    pictures: object  # the same, CuPy
    copied: object  # event: pinned has been read and pictures written
    used: object  # event: pictures has been read


class Prefetch:
    """Batches of steps start, start + 1, …, stop − 1, in this order, with their pictures on the graphics card.

    batches: as `Batches`, (step, map) -> micro-batches; shape: (N, 3, S, S) of a whole batch's pictures; map: what
    draws them. `prefetch(step)` -> list of (pictures, CuPy, a view that is good until the next call;
    tokens, NumPy). Raises what drawing raised. To be used in a `with`, which ends the thread.
    """

    def __init__(self, batches, shape, start, stop, map=map):
        import cupy
        import cupyx

        self.cupy, self.batches, self.stop, self.map = cupy, batches, stop, map
        self.device, self.stream = cupy.cuda.Device(), cupy.cuda.Stream(non_blocking=True)
        main = cupy.cuda.get_current_stream()
        self.slots = []
        for _ in range(2):
            slot = Slot(
                cupyx.empty_pinned(shape, np.float32),
                cupy.empty(shape, np.float32),
                cupy.cuda.Event(disable_timing=True),
                cupy.cuda.Event(disable_timing=True),
            )
            main.record(slot.used)
            self.slots.append(slot)
        self.thread = ThreadPoolExecutor(1, "prefetch", initializer=np.seterr, initargs=("ignore",))
        self.given = None  # the slot that the main thread is at work on
        self.coming = self._begin(start)

    def __call__(self, step, map=None):
        """The micro-batches of the next step; what was launched before this call was all that reads the last ones."""
        main = self.cupy.cuda.get_current_stream()
        if self.given:
            main.record(self.given.used)
        expected, future = self.coming
        if step != expected or future is None:
            raise ValueError(
                f"step {step} was asked for; these batches come in order, up to step {self.stop - 1}, "
                f"and the next is step {expected}."
            )
        micro_batches = future.result()
        self.given = self.slots[step % 2]
        main.wait_event(self.given.copied)
        self.coming = self._begin(step + 1)
        return micro_batches

    def _begin(self, step):
        return step, self.thread.submit(self._prepare, step) if step < self.stop else None

    def _prepare(self, step):
        micro_batches, slot = self.batches(step, self.map), self.slots[step % 2]
        place, views = 0, []
        with self.device:
            slot.copied.synchronize()
            for images, tokens in micro_batches:
                rows = slice(place, place + len(images))
                slot.pinned[rows] = images
                views.append((slot.pictures[rows], tokens))
                place = rows.stop
            self.stream.wait_event(slot.used)
            slot.pictures.set(slot.pinned, stream=self.stream)
            self.stream.record(slot.copied)
        return views

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.thread.shutdown(cancel_futures=True)  # waits for one batch at most
        self.stream.synchronize()
