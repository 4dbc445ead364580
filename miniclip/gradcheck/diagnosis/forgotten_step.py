"""Which step of the forward pass does backward forget? Each is changed in turn (tracing.py) until the claim is met."""

import time
from itertools import combinations, islice
from weakref import WeakKeyDictionary

import numpy as np

from .changes import PRODUCTS, changes, is_leaf, still_kind
from .evidence import LARGE
from .source_text import operand, place
from .step import Step
from .tracing import run

SECONDS, RUNS, FEW = 0.8, 600, 20  # of forward passes that are changed; few for a large array
SO_FAR = WeakKeyDictionary()  # {point: [seconds spent in vain, phrases that were right]}


def forgotten_step(e):
    """a is the gradient of a forward pass of which one step is changed: (kind, sentence)."""
    if e.accuracy is None:
        return None
    (u, claim, image), *others = e.probes
    truth, trace = run(e, u)
    if not abs(truth - (e.cotangent * image).sum()) <= e.accuracy:
        return None  # the trace sees another function than the one that was checked
    spent, known = SO_FAR.setdefault(e.array.point, [0.0, set()])
    started, runs = time.perf_counter(), FEW if e.claimed.size > LARGE else RUNS
    for kind, phrase, change in islice(sooner(guesses(trace.steps, e), known, e), runs):
        if time.perf_counter() - started > min(SECONDS, 1.5 * SECONDS - spent):
            break
        if abs(run(e, u, change)[0] - claim) <= e.accuracy:
            if all(abs(run(e, v, change)[0] - expected) <= e.accuracy for v, expected, _ in others):
                known.add(unnamed(phrase, e))
                return (kind(e) if callable(kind) else kind), f"it is the gradient as if {phrase}."
    SO_FAR[e.array.point][0] += time.perf_counter() - started
    return None


def sooner(guesses, known, e):
    """The guesses, and first those that were right for other arrays of this point."""
    if not known:
        return guesses
    return sorted(guesses, key=lambda guess: unnamed(guess[1], e) not in known)


def unnamed(phrase, e):
    """A phrase without the name of the array at its end."""
    return phrase.removesuffix(f" {e.name}")


def has_loop(e, rounds=None):
    """Whether the forward pass runs through one of its lines more than once, or just so many times."""
    if not hasattr(e, "trace"):  # kept, for several tests ask
        e.trace = run(e, np.random.default_rng(0).standard_normal(e.claimed.size))[1]
    counts = set(e.trace.rounds.values()) if e.trace else set()
    return rounds - 1 in counts if rounds else any(counts)


def guesses(steps, e):
    """(kind, phrase, change) for each change that a backward pass may have made, the likeliest first."""
    sites, rounds = {}, {}  # the step at each site that tells most, and how often it runs
    for step in steps:
        rounds[step.site] = step.round + 1
        if step.site not in sites or len(step.moving) > len(sites[step.site].moving):
            sites[step.site] = step
    sites = list(sites.values())
    sums = [step for step in sites if step.reduces]
    for step in sums:
        yield still_kind(step), f"{place(step)} did not depend on {e.name}", at(step.site, Step.still)
    for step in sites:
        for kind, phrase, change in changes(step, rounds[step.site], e):
            yield kind, phrase, at(step.site, change)
    for inner in dict.fromkeys(step.site[0] for step in sites):  # a function that is called at several places
        callers = [step for step in sites if step.site[0] == inner]
        for kind, phrase, change in changes(callers[0], 1, e) if len(callers) > 1 else ():
            yield kind, f"{phrase}, at all its calls", together([at(step.site, change) for step in callers])
    yield from single_uses(sites, e)
    for step in sites:
        yield from other_operands(step, steps, {0: ""})
    for step in sites:
        yield from some_rounds(step, rounds[step.site])
    for step in sites if len(steps) > len(sites) else ():
        yield from other_operands(step, steps, {1: " of the next round", -1: " of the round before"})
    for step in sites:
        yield from other_paths(step, sites, e)
    for one, two in combinations(sums[:8], 2):
        phrase = f"{place(one)} and {place(two)} did not depend on {e.name}"
        yield (
            of_both(still_kind(one), still_kind(two)),
            phrase,
            together([at(one.site, Step.still), at(two.site, Step.still)]),
        )


def of_both(one, two):
    """The kind of two changes at once: that of the first, where it is known of it."""
    return lambda e: two(e) if one(e) == "missing term" else one(e)


def at(site, change, chosen=lambda round: True):
    """The change, at one site alone, and there in the rounds of a loop for which chosen(round) holds."""
    return lambda step: change(step) if step.site == site and chosen(step.round) else None


def together(parts):
    """The first of several changes that has something to change at a step."""

    def change(step):
        return next((result for part in parts if (result := part(step)) is not None), None)

    return change


def single_uses(steps, e):
    """An array that is used three times or more: one use alone counts."""
    steps = [step for step in steps if step.name not in ("transpose", "swapaxes")]
    uses = [(step, i) for step in steps for i in step.moving if is_leaf(step.inputs[i], e)]
    for step, i in uses if 2 < len(uses) < 9 else ():
        lost = [at(s.site, lambda s, k=k: s.without(k)) for s, k in uses if (s, k) != (step, i)]
        phrase = f"of the {len(uses)} uses of {e.name} only {operand(step, i)} in {place(step)} counted"
        yield "missing term", phrase, together(lost)


def some_rounds(step, count):
    """A step in a loop that counts in some of its rounds only."""
    if count < 2:
        return
    for i in step.moving:
        what, change = f"{operand(step, i)} in {place(step)}", lambda s, i=i: s.without(i)
        for word, kept in (("first", 0), ("last", count - 1)):
            phrase = f"{what} counted in the {word} of its {count} rounds alone, as by = in place of +="
            yield "time step", phrase, at(step.site, change, lambda r, kept=kept: r != kept)
        for k in (0, count - 1, *range(1, min(count - 1, 12))):
            phrase = f"{what} were forgotten in round {k} of 0–{count - 1}"
            yield "time step", phrase, at(step.site, change, lambda r, k=k: r == k)
        for every in range(2, min(count // 2, 8) + 1):
            for k in range(every):
                phrase = f"{what} were forgotten in one of {every} rounds, from round {k}: backward is cut into pieces"
                yield "time step", phrase, at(step.site, change, lambda r, k=k, every=every: r % every == k)


def other_operands(step, steps, shifts):
    """A product with another array of the forward pass, of this round or the next, in the place of a factor."""
    if step.name not in PRODUCTS or len(step.inputs) != 2:
        return
    for i in step.moving:
        kept = step.inputs[1 - i]
        values, texts = {}, {}  # by (site, number of the operand or result, round) and (site, number)
        for s in steps if np.size(kept) > 1 else ():
            for number, x in enumerate((*s.inputs, s.result)):
                if np.shape(x) == np.shape(kept):
                    values[s.site, number, s.round] = np.real(x)
                    texts.setdefault((s.site, number), place(s) if number == len(s.inputs) else operand(s, number))
        for key, text in texts.items():
            for shift, when in shifts.items():
                value = values.get((*key, step.round + shift))
                if value is None or (not shift and np.array_equal(value, np.real(kept))):
                    continue

                def change(s, i=i, key=key, shift=shift, values=values):
                    value = values.get((*key, s.round + shift), s.inputs[1 - i])
                    return s.instead(i, s.part(i, {1 - i: value}))

                phrase = f"{text}{when} stood where {operand(step, 1 - i)} stands in {place(step)}"
                yield "time step" if shift else "missing term", phrase, at(step.site, change)


def other_paths(step, steps, e):
    """A sum of which one part comes back by way of another array, as a shortcut that goes through the norm as well."""
    for i in step.moving if step.name == "add" and len(step.inputs) == 2 else ():
        for other in steps:
            if other.site == step.site or other.result.shape != step.result.shape:
                continue
            sibling = np.array_equal(other.result.real, np.real(step.inputs[1 - i]))
            kind = "one-sided" if sibling else "shortcut" if is_leaf(step.inputs[i], e) else "missing term"

            def change(s, i=i, site=other.site):
                before = [past for past in s.trace.steps if past.site == site]
                return s.instead(i, before[-1].result.imag) if before else None

            phrase = f"{operand(step, i)} in {place(step)} were {place(other)}: it comes back by that way"
            yield kind, phrase, at(step.site, change)
