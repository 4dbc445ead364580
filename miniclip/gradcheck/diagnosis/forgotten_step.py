"""Which step of the forward pass does backward forget? Each is changed in turn (tracing.py) until the claim is met."""

from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

from .changes import PRODUCTS, Change, changes, is_leaf, nothing_by
from .evidence import CLOSE, LARGE
from .factors import name_factor
from .norms import lacking
from .source_text import operand, place
from .step import Step
from .tracing import run

GUESSES, FEW = 200, 20  # that are tried; few for a large array
STEPS = 12_000  # of the forward passes of all of them together


class Spot(NamedTuple):
    """A place in the source of the forward pass, by the step there that tells most."""

    step: Step
    sites: list  # where the same is done: what is computed twice, or all calls of one function
    rounds: int
    recurs: bool  # whether it runs in a loop, and what one round gives, the next takes


def forgotten_step(e):
    """a is the gradient of a forward pass of which one step is changed: (kind, sentence)."""
    if not e.array.search or e.accuracy is None:
        return None
    truths = [float((e.cotangent * image).sum()) for *_, image in e.probes]
    truth, trace = run(e, e.probes[0][0])
    if trace is None or not trace.steps or not abs(truth - truths[0]) <= e.accuracy:
        return None  # the trace sees another function than the one that was checked
    factors, most = [], FEW if e.claimed.size > LARGE else min(GUESSES, STEPS // len(trace.steps))
    for guess in islice(guesses(trace.steps, e), most):
        share = share_of(guess, truths, e)
        if share is not None and abs(share - 1) <= CLOSE:
            kind = guess.kind(e) if callable(guess.kind) else guess.kind
            return kind, f"it is the gradient as if {guess.phrase}."
        if share is not None:  # less likely than what comes by another path and is exact
            factors.append(name_factor(1 - share, e, f"what comes back by {guess.path}"))
    return min(factors, key=len, default=None)


def share_of(guess, truths, e):
    """1 where a guess explains the claim; k where k times its change does, as for a path with a factor; or None."""
    share = 1.0
    for k, ((u, claim, _), truth) in enumerate(zip(e.probes, truths)):
        off = run(e, u, guess.change)[0] - truth
        if k == 0 and guess.path and e.claimed.size > 2 and abs(off) > 20 * e.accuracy:
            share = (claim - truth) / off
        if not abs(truth + share * off - claim) <= e.accuracy * max(1, abs(share)):
            return None
    return share


def guesses(steps, e):
    """The `Change`s that a backward pass may have made, each at its sites, the likeliest first."""
    spots = spots_of(steps)
    sums = [spot for spot in spots if spot.step.reduces]
    for spot in sums:
        yield nothing_by(place(spot.step), lacking, at(spot.sites, Step.still), e)
    for spot in spots:
        for guess in changes(spot, e):
            yield guess._replace(change=at(spot.sites, guess.change))
    yield from single_uses(spots, e)
    for spot in spots:
        for guess in other_operands(spot.step, steps):
            yield guess._replace(change=at(spot.sites, guess.change))
    for spot in spots:
        for guess in other_paths(spot.step, [other.step for other in spots], e):
            yield guess._replace(change=at(spot.sites, guess.change))
    for one, two in combinations(sums[:8], 2):
        path = f"{place(one.step)} and {place(two.step)}"
        yield nothing_by(path, lacking, at(one.sites + two.sites, Step.still), e)


def spots_of(steps):
    """Each `Spot` of the source once: what is computed twice as one, then by itself, then all calls of a function."""
    told, results, recurrent = {}, {}, recurs(steps)
    for step in steps:
        results.setdefault(step.site, [step.name]).append(step.result.tobytes())
        if step.site not in told or len(step.moving) > len(told[step.site].moving):
            told[step.site] = step
    twins, calls = {}, {}
    for site, values in results.items():
        twins.setdefault(tuple(values), []).append(site)
        calls.setdefault(site[0], []).append(site)
    together = list(twins.values())
    alone = [[site] for sites in together if len(sites) > 1 for site in sites]
    groups = [*together, *alone, *(sites for sites in calls.values() if len(sites) > 1)]
    rounds = [len(results[sites[0]]) - 1 for sites in groups]
    return [Spot(told[sites[0]], sites, n, recurrent and n > 1) for sites, n in zip(groups, rounds)]


def recurs(steps):
    """Whether what a step gives comes back to it in a later round; a sum that is added up in a loop does not count."""
    made = {}  # {result: (the site that gave it, the sites that it comes from)}
    for step in steps:
        sources = [made[key] for x in step.inputs if (key := np.asarray(x).tobytes()) in made]
        if any(step.site in earlier and step.site != site for site, earlier in sources):
            return True
        made[step.result.tobytes()] = step.site, {step.site}.union(*(earlier for _, earlier in sources))
    return False


def at(sites, change):
    """The change, at these sites alone."""
    return lambda step: change(step) if step.site in sites else None


def single_uses(spots, e):
    """An array that is used three times or more: one use alone counts."""
    steps = {spot.step.site: spot.step for spot in spots if spot.step.name not in ("transpose", "swapaxes")}
    uses = [(step, i) for step in steps.values() for i in step.moving if is_leaf(step.inputs[i], e)]
    for step, i in uses if 2 < len(uses) < 9 else ():
        lost = {s.site: k for s, k in uses if (s, k) != (step, i)}
        phrase = f"of the {len(uses)} uses of {e.name} only {operand(step, i)} in {place(step)} counted"
        without = lambda s, lost=lost: s.without(lost[s.site]) if s.site in lost else None
        yield Change("missing term", phrase, without)


def other_operands(step, steps):
    """A product with another array of the forward pass in the place of a factor."""
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
            value = values.get((*key, step.round))
            if value is None or np.array_equal(value, np.real(kept)):
                continue

            def change(s, i=i, key=key, values=values):
                return s.instead(i, s.part(i, {1 - i: values.get((*key, s.round), s.inputs[1 - i])}))

            phrase = f"{text} stood where {operand(step, 1 - i)} stands in {place(step)}"
            yield Change("missing term", phrase, change)


def other_paths(step, steps, e):
    """A sum of which one part comes back by way of another array, as a shortcut that goes through the norm as well."""
    for i in step.moving if step.name == "add" and len(step.inputs) == 2 else ():
        for other in steps:
            if other.result.shape != step.result.shape or np.array_equal(other.y, np.real(step.inputs[i])):
                continue

            def change(s, i=i, site=other.site):
                before = [past for past in s.trace.steps if past.site == site]
                return s.instead(i, before[-1].slope) if before else None

            phrase = f"{operand(step, i)} in {place(step)} were {place(other)}: it comes back by that way"
            yield Change("shortcut" if is_leaf(step.inputs[i], e) else "missing term", phrase, change)


def has_loop(e, rounds=None):
    """Whether the forward pass runs through one of its lines more than once, or just so many times."""
    counts = set(e.trace.rounds.values()) if e.trace else set()
    return rounds - 1 in counts if rounds else any(counts)
