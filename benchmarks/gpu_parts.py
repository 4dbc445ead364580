"""The parts of benchmarks/gpu.py: what each asks the workers for, what it makes of the answers, and how it tells it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from cpu import NAMES, ratios
from gpu_worker import CASES, model

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/test_on_cupy.py", "tests/test_kernels.py")
PRECISIONS = ("bfloat16", "tf32", "float32")
SIDES = ("ours", "torch", "compile")
TIMED = [(name, precision) for name in ("b32-256", "default", "b32-1024") for precision in PRECISIONS]
# What sides may differ in, relative: (loss, gradient). bfloat16 keeps 8 binary places, TF32 10. A ReLU whose input is
# 0 up to rounding falls on either side of its kink, so a ResNet's gradients may differ by more.
APART = {"float32": (1e-4, 2e-3), "tf32": (2e-3, 0.1), "bfloat16": (0.05, 0.3)}
RELU = {"float32": 0.05, "tf32": 0.3, "bfloat16": 0.6}
# NumPy and CuPy after a step: (loss, gradient, parameters). Later steps start from parameters that differ already.
STEPS_APART = {"float64": (1e-9, 1e-7, 1e-9), "float32": (1e-3, 0.05, 1e-3)}
TURN = 0.5  # seconds, about, that a side runs before the next has its turn


class Failed(Exception):
    """A sentence: why something could not be measured. memory: whether memory ran out; trace: where, or None."""

    def __init__(self, words, memory=False, trace=None):
        super().__init__(words)
        self.memory, self.trace = memory, trace


class Disagree(Exception):
    """Two sides compute different things, or a test fails."""


def measure_tests(bench, result):
    """Run the tests that have a card's arrays in them."""
    files = [name for name in TESTS if (ROOT / name).exists()]
    missing = sorted(set(TESTS) - set(files))
    if missing:
        result["missing"] = missing
    if not files:
        raise Failed(f"there is no {' and no '.join(missing)}")
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-ra"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(max(1, bench.left()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        output.seek(0)
        lines = [line.rstrip() for line in output.read().splitlines() if line.strip()]
    result |= {"status": status, "summary": lines[-1] if lines else "", "lines": lines[-60:]}
    if status is None:
        raise Failed("the tests took too long")
    if status == 1:
        raise Disagree(f"tests fail: {result['summary']}")
    if status:
        raise Failed(f"pytest ended with status {status}: {result['summary']}")


def measure_agreement(bench, result):
    """NumPy against CuPy, step by step, of two models in two dtypes."""
    wrong = []
    for name in [name for name in bench.options.case or ("default", "vit-tiny") if name in ("default", "vit-tiny")]:
        for dtype, allowed in STEPS_APART.items():
            found = bench.ask(
                "ours",
                do="agreement",
                name=name,
                dtype=dtype,
                steps=2 if bench.options.quick else 4,
                batch=8 if bench.options.quick else 64,
            )
            result[f"{name}, {dtype}"] = found
            for step, row in enumerate(found["steps"], 1):
                if not all(row[key] <= most for key, most in zip(MEASURED, allowed)):
                    wrong.append(f"{name} in {dtype} after step {step}")
    if wrong:
        raise Disagree(f"NumPy and CuPy differ by too much: {', '.join(wrong)}")


MEASURED = ("loss_apart", "gradient_apart", "parameters_apart")


def measure_ceilings(bench, result):
    """The best that a product and a copy reach on this card."""
    quick = bench.options.quick
    for precision in (*PRECISIONS, "float16"):
        try:
            result[precision] = bench.ask("ours", do="products", precision=precision, quick=quick)["tflops"]
        except Failed as failed:  # without ml_dtypes there is no bfloat16
            result[precision] = str(failed)
    result["bytes_per_second"] = bench.ask("ours", do="bandwidth", quick=quick)["bytes_per_second"]


def measure_waits(bench, result):
    """What makes the host wait in a step."""
    for name in [name for name in bench.options.case or ("default", "vit-tiny", "b32-256") if name in CASES]:
        precision = (bench.options.precision or ["float32"])[0]
        bench.ask("ours", do="load", side="ours", name=name, precision=precision, quick=bench.options.quick)
        result[f"{name}, {precision}"] = bench.ask("ours", do="waits")


def measure_timing(bench, result):
    """All that is asked for of models and precisions; the first are those that say most."""
    wrong, options, rows = [], bench.options, result.setdefault("rows", {})
    for sides in (SIDES[:2], SIDES):  # to compile takes a minute: first what needs none
        for name, precision in TIMED:
            key, row = (
                f"{name}, {precision}",
                {"case": name, "precision": precision, "title": CASES[name][0], "failed": {}, "how": {}},
            )
            if name not in (options.case or CASES) or precision not in (options.precision or PRECISIONS):
                continue
            if bench.left() < 1:
                rows.setdefault(key, row | {"failed": {"all": "the time was up before it"}})
                continue
            try:
                time_case(bench, row, list(sides))
            except Disagree as error:
                wrong.append(f"{key}: {error}")
                row["failed"]["all"] = str(error)
            except Failed as failed:
                row["failed"]["all"] = str(failed)
            if sides is not SIDES or row.get("seconds", {}).get("compile"):
                rows[key] = row
            else:  # what was timed without it stays
                rows[key]["failed"]["compile"] = row["failed"].get("compile") or row["failed"].get("all")
            bench.save()
            print("\n".join(["", *timing_lines([rows[key]])]), flush=True)
    if wrong:
        raise Disagree("; ".join(wrong))


def time_case(bench, row, sides):
    """One model in one precision: load, compare, time in turns, and weigh. What is found goes into the row."""
    options, name = bench.options, row["case"]

    def each(work, backwards=False):
        """work(side) for all that still take part; one that fails takes no further part."""
        answers = {}
        for side in sides[::-1] if backwards else list(sides):
            try:
                answers[side] = work(side)
            except Failed as failed:
                row["failed"][side] = str(failed)
                sides.remove(side)
        return answers

    with tempfile.TemporaryDirectory() as folder:
        checked = each(lambda side: load_and_check(bench, row, side, Path(folder) / f"{side}.npz"))
        gradients = {}
        for side in checked:
            with np.load(Path(folder) / f"{side}.npz") as arrays:
                gradients[side] = dict(arrays)
    row["losses"] = {side: answer["loss"] for side, answer in checked.items()}
    row["first_seconds"] = {side: answer["seconds"] for side, answer in checked.items()}
    row["agreement"] = compare(row["losses"], gradients, row["precision"], is_resnet=name == "default")
    row["batch"] = model(name, options.quick)[1]
    try:
        row["flops"] = bench.ask("floor", do="flops", name=name, quick=options.quick)["step"]
    except Failed as failed:
        row["failed"]["floor"] = str(failed)
    once = each(lambda side: bench.ask(side, do="step", times=1, warm=2)["seconds"])
    times = {side: 1 if options.quick else max(1, min(200, round(TURN / seconds))) for side, seconds in once.items()}
    rounds = []
    for turn in range(2 if options.quick else options.rounds):
        answers = each(lambda side: bench.ask(side, do="step", times=times[side])["seconds"], backwards=turn % 2)
        if bench.left() < 1:
            break  # a round that is not whole does not count
        rounds.append(answers)
    seconds = {side: [answers[side] for answers in rounds if side in answers] for side in once}
    row["seconds"] = {side: each_round for side, each_round in seconds.items() if each_round}
    row["memory"] = each(lambda side: bench.ask(side, do="memory"))


def load_and_check(bench, row, side, file):
    """The loss and gradients of a side, in the file. Where ours does not fit, in four parts, and the row says so."""

    def answer(**more):
        bench.ask(
            side, do="load", side=side, name=row["case"], precision=row["precision"], quick=bench.options.quick, **more
        )
        return bench.ask(side, do="check", file=str(file))

    try:
        return answer()
    except Failed as failed:
        if side != "ours" or not failed.memory:
            raise
        row["how"][side] = "4 shards, recomputed"
        return answer(parts=4)


def compare(losses, gradients, precision, is_resnet):
    """{side: (loss, worst gradient)}, how far each is from miniclip's. Raises Disagree."""
    if "ours" not in losses:
        return {}
    found, allowed = {}, (APART[precision][0], RELU[precision] if is_resnet else APART[precision][1])
    for side, loss in losses.items():
        apart = abs(loss - losses["ours"]) / abs(losses["ours"])
        errors = {
            key: float(
                np.linalg.norm(theirs.astype(np.float64) - gradients["ours"][key].astype(np.float64))
                / np.linalg.norm(theirs.astype(np.float64))
            )
            for key, theirs in gradients[side].items()
            if key in gradients["ours"]
        }
        worst = max(errors, key=errors.get, default=None)
        if (
            gradients[side].keys() != gradients["ours"].keys()
            or worst is None
            or not apart <= allowed[0]
            or not (errors[worst] <= allowed[1])
        ):
            raise Disagree(
                f"{NAMES[side]} has the loss {loss:.6f}, miniclip {losses['ours']:.6f}; of the gradients "
                f"{worst} differs most, by {errors.get(worst, 1):.2g}. What computes another thing is not "
                "timed"
            )
        found[side] = apart, errors[worst]
    return found


def timing_lines(rows, ceilings=None):
    """A Markdown table of rows of the timing, without rows that have nothing."""
    lines = [
        "| a training step | precision | miniclip | PyTorch | torch.compile | memory (GiB) | products |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        seconds = row.get("seconds", {})
        cells = [row["title"], row["precision"]]
        for side in SIDES:
            if seconds.get(side):
                cell = f"{median(seconds[side]) * 1000:.1f} ms"
                if side != "ours" and seconds.get("ours"):
                    middle, least, most = ratios(seconds, side)
                    cell += f" ({middle:.2f}; {least:.2f} to {most:.2f})"
                cells.append(cell + (f", {row['how'][side]}" if side in row.get("how", {}) else ""))
            else:
                cells.append((row["failed"].get(side) or row["failed"].get("all") or "not measured")[:90])
        cells.append(
            " / ".join(
                f"{row['memory'][side]['used'] / 2**30:.1f}" if side in row.get("memory", {}) else "–" for side in SIDES
            )
        )
        cells.append(products_share(row, ceilings))
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return lines


def products_share(row, ceilings):
    """What the step's products reach of the fastest product of this precision, in words."""
    if "flops" not in row or not row.get("seconds", {}).get("ours"):
        return "–"
    rate = row["flops"] / median(row["seconds"]["ours"]) / 1e12
    best = (ceilings or {}).get(row["precision"])
    return f"{rate:.1f} TFLOP/s" + (f", {rate / best:.0%}" if isinstance(best, float) and best else "")


def tell_agreement(result):
    for name, found in result.items():
        if isinstance(found, dict):
            most = {key: max(row[key] for row in found["steps"]) for key in MEASURED}
            yield (
                f"  {name}, {len(found['steps'])} steps of {found['batch']}: at most apart, relative: loss "
                f"{most['loss_apart']:.1e}, gradient {most['gradient_apart']:.1e}, parameters "
                f"{most['parameters_apart']:.1e}"
            )


def tell_ceilings(result):
    for precision in (*PRECISIONS, "float16"):
        rate = result.get(precision)
        if rate is not None:
            yield f"  {precision}: " + (f"{rate:.0f} TFLOP/s" if isinstance(rate, float) else rate)
    if "bytes_per_second" in result:
        yield f"  a copy: {result['bytes_per_second'] / 1e12:.2f} TB/s, read and written"


def tell_waits(result):
    for name, found in result.items():
        if isinstance(found, dict):
            places = ", ".join(f"{place} × {count}" for place, count in found["places"].items())
            yield (
                f"  {name}: {found['count']} in a step{f' ({places})' * bool(places)}; asked for in "
                f"{found['asked'] * 1000:.1f} ms, done in {found['done'] * 1000:.1f} ms; counted by wrapping "
                f"{', '.join(found['wrapped'])}"
            )


TOLD = {
    "tests": lambda result: [f"  {result['summary']}"] if result.get("summary") else [],
    "agreement": tell_agreement,
    "ceilings": tell_ceilings,
    "waits": tell_waits,
    "timing": lambda result: [],
}
MEASURES = {
    "tests": measure_tests,
    "agreement": measure_agreement,
    "ceilings": measure_ceilings,
    "waits": measure_waits,
    "timing": measure_timing,
}
