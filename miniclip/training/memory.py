"""What of a training run would fit into a graphics card's memory, once a batch has not: measured, then scaled.

A step needs, for each pair, `work` bytes while its shard is worked on and `held` bytes until its shard's turn
comes again; for each shard, its gradients; and what does not depend on the batch. A few tiny steps tell them all.
With recomputation nothing is held.
"""

import gc
from dataclasses import dataclass

from ..backend import OutOfMemory, array_module
from ..train_step import loss_and_gradient

PAIRS = 8  # of a tiny shard
SPARE = 0.9  # of the free memory; the pool cannot use all of it


@dataclass
class Need:
    """Bytes that a training step takes beyond parameters and optimiser."""

    fixed: float
    shard: float
    work: float
    held: float

    def bytes(self, batch, shard, recompute):
        """An estimate for a batch in shards."""
        shard = min(shard, batch)
        held = 0 if recompute else self.held * (batch - shard)
        return self.fixed + self.work * shard + held + self.shard * -(-batch // shard)


def measure(run):
    """The `Need` of a training run on a graphics card, from steps of one or two shards of a few pairs."""
    gc.collect()  # what the failed step left in cycles
    images, tokens = run.batches(0)[0]
    n = max(1, min(PAIRS, len(images) // 2))

    def peak(sizes, recompute=False):
        pool = array_module(run.params.vector).get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        shards = [(run.to_device(images[:size]), tokens[:size]) for size in sizes]
        loss_and_gradient(run.params.tree, shards, run.config, run.gradient, map, recompute)
        return pool.total_bytes() - before

    peak([n])  # what libraries keep for themselves, once
    one, twice, two = peak([n]), peak([2 * n]), peak([n, n])
    shard = max(0, peak([n, n], True) - peak([n], True))
    work, held = max(0, (twice - one) / n), max(0, (two - one - shard) / n)
    return Need(max(0, one - work * n - shard), shard, work, held)


def choose(need, room, recipe):
    """The first (batch, shard, recompute) that fits into `room` bytes and changes least of a recipe, or None.

    A smaller shard is tried first, then recomputation, then half the batch, and so on.
    """
    shards = [recipe.shard >> k for k in range(recipe.shard.bit_length())]
    batches = [recipe.batch >> k for k in range(recipe.batch.bit_length() - 1)]
    for batch in batches:
        for recompute in (False, True) if batch == recipe.batch and not recipe.recompute else (True,):
            for shard in shards:
                same = (batch, shard, recompute) == (recipe.batch, recipe.shard, recipe.recompute)
                if 2 <= shard <= batch and not same and need.bytes(batch, shard, recompute) <= room * SPARE:
                    return batch, shard, recompute
    return None


def what_fits(run, full):
    """An OutOfMemory error of a training run -> the same with advice, which a card is measured for."""
    recipe, xp = run.recipe, array_module(run.params.vector)
    did = f"a batch of {recipe.batch} in shards of {recipe.shard}{' with recompute' * recipe.recompute} did not fit"
    if xp.__name__ != "cupy":
        return OutOfMemory(f"{full} Here, {did}: a smaller --shard with --recompute needs least.")
    try:
        need = measure(run)
        xp.get_default_memory_pool().free_all_blocks()
        free, total = xp.cuda.Device().mem_info
        found = choose(need, free, recipe)
    except MemoryError:
        found = need = None
    if found is None or not need.work:
        return OutOfMemory(f"{full} Here, {did}, and no smaller batch of this model is known to.")
    batch, shard, recompute = found
    return OutOfMemory(
        f"the graphics card's memory of {total / 2**30:.1f} GiB ran out: {did}. By an estimate from a few pairs, of "
        f"{need.work / 2**20:.2g} MiB each, --batch {batch} --shard {shard}{' --recompute' * recompute} would fit; "
        "that is another recipe, so start again with another --out."
    )
