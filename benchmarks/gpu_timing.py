"""The timing of benchmarks/gpu.py: a training step of miniclip against PyTorch's, with its memory; and the table."""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from common import Disagree, Failed, compare, ratios, repeats
from gpu_parts import PRECISIONS
from gpu_worker import CASES, model

from miniclip.init import is_resnet

SIDES = ("ours", "torch", "compile")
# The first are those that say most, should the time not be enough for all.
TIMED = [(name, precision) for name in ("b32-256", "default", "b32-1024") for precision in PRECISIONS]
TURN = 0.5  # seconds, about, that a side runs before the next has its turn


def measure_timing(bench, result):
    """All models and precisions that are asked for."""
    wrong, options, rows = [], bench.options, result.setdefault("rows", {})
    for sides in (SIDES[:2], SIDES):  # to compile takes a minute: first what needs none
        for name, precision in TIMED:
            if name not in (options.case or CASES) or precision not in (options.precision or PRECISIONS):
                continue
            key, row = f"{name}, {precision}", {"case": name, "precision": precision, "title": CASES[name][0]}
            row |= {"failed": {}, "how": {}}
            if bench.left() < 1:
                rows.setdefault(key, row | {"failed": {"all": "the time was up before it"}})
                continue
            try:
                time_case(bench, row, list(sides))
            except (Disagree, Failed) as error:
                row["failed"]["all"] = str(error)
                wrong += [f"{key}: {error}"] if isinstance(error, Disagree) else []
            if sides is not SIDES or row.get("seconds", {}).get("compile"):
                rows[key] = row
            else:  # what was timed without it stays
                rows[key]["failed"]["compile"] = row["failed"].get("compile") or row["failed"].get("all")
            bench.save()
            print("\n".join(["", *timing_table([rows[key]])]), flush=True)
    if wrong:
        raise Disagree("; ".join(wrong))


def time_case(bench, row, sides):
    """One model in one precision: load, compare, time in turns, weigh. What is found goes into the row."""
    options, name = bench.options, row["case"]
    config, row["batch"] = model(name, options.quick)

    def each(work, order=1):
        """{side: work(side)} of all that still take part; one that fails takes no further part."""
        answers = {}
        for side in sides[::order]:
            try:
                answers[side] = work(side)
            except Failed as failed:
                row["failed"][side] = str(failed)
                sides.remove(side)
        return answers

    gradients = {}
    with tempfile.TemporaryDirectory() as folder:
        checked = each(lambda side: load_and_check(bench, row, side, Path(folder) / f"{side}.npz"))
        for side in checked:
            with np.load(Path(folder) / f"{side}.npz") as arrays:
                gradients[side] = dict(arrays)
    row["losses"] = {side: answer["loss"] for side, answer in checked.items()}
    row["first_seconds"] = {side: answer["seconds"] for side, answer in checked.items()}
    row["agreement"] = {}
    if "ours" in checked:
        row["agreement"] = compare(row["losses"], gradients, is_resnet(config), row["precision"])
    try:
        row["flops"] = bench.ask("floor", do="flops", name=name, quick=options.quick)
    except Failed as failed:
        row["failed"]["floor"] = str(failed)
    once = each(lambda side: bench.ask(side, do="step", warm=2))
    times = {side: 1 if options.quick else repeats(seconds, TURN, 200) for side, seconds in once.items()}
    rounds = []
    for turn in range(2 if options.quick else options.rounds):
        answers = each(lambda side: bench.ask(side, do="step", times=times[side]), -1 if turn % 2 else 1)
        if bench.left() < 1:
            break  # a round that is not whole does not count
        rounds.append(answers)
    seconds = {side: [answers[side] for answers in rounds if side in answers] for side in once}
    row["seconds"] = {side: each_round for side, each_round in seconds.items() if each_round}
    row["memory"] = each(lambda side: bench.ask(side, do="memory"))


def load_and_check(bench, row, side, file):
    """The loss and gradients of a side, in the file. Where ours does not fit, in four parts, and the row says so."""
    which = {"side": side, "name": row["case"], "precision": row["precision"], "quick": bench.options.quick}

    def answer(**parts):
        bench.ask(side, do="load", **which, **parts)
        return bench.ask(side, do="check", file=str(file))

    try:
        return answer()
    except Failed as failed:
        if side != "ours" or not failed.memory:
            raise
        row["how"][side] = "4 micro-batches, recomputed"
        return answer(parts=4)


def timing_table(rows, ceilings=None):
    """The lines of a Markdown table of rows of the timing."""
    lines = ["| a training step | precision | miniclip | PyTorch | torch.compile | memory (GiB) | products |"]
    lines.append("| --- " * 7 + "|")
    for row in rows:
        memory = [
            f"{row['memory'][side]['used'] / 2**30:.1f}" if side in row.get("memory", {}) else "–" for side in SIDES
        ]
        cells = [row["title"], row["precision"], *(time_cell(row, side) for side in SIDES), " / ".join(memory)]
        cells.append(products_share(row, ceilings or {}))
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return lines


def time_cell(row, side):
    """The time of a side's step, and of a peer the ratio; or why it was not measured."""
    seconds = row.get("seconds", {})
    if not seconds.get(side):
        return (row["failed"].get(side) or row["failed"].get("all") or "not measured")[:90]
    cell = f"{median(seconds[side]) * 1000:.1f} ms"
    if side != "ours" and seconds.get("ours"):
        middle, least, most = ratios(seconds, "ours", side)
        cell += f" ({middle:.2f}; {least:.2f} to {most:.2f})"
    return cell + (f", {row['how'][side]}" if side in row["how"] else "")


def products_share(row, ceilings):
    """The rate of the step's products, and its share of the fastest product of this precision."""
    if "flops" not in row or not row.get("seconds", {}).get("ours"):
        return "–"
    rate, best = row["flops"] / median(row["seconds"]["ours"]) / 1e12, ceilings.get(row["precision"])
    return f"{rate:.1f} TFLOP/s" + (f", {rate / best:.0%}" if isinstance(best, float) and best else "")
