"""What does a training step cost on a graphics card here, and in PyTorch, and how near is it to the card's limits?

    python benchmarks/gpu.py                                     everything, in at most ten minutes
    python benchmarks/gpu.py --part timing --case b32-256        one part, one model; the file keeps the others
    python benchmarks/gpu.py --part timing --precision bfloat16 --rounds 9 --minutes 20

Parts, in this order; one that fails is recorded with its reason, and the next begins:

    tests       the tests that run on a card where one is there
    agreement   NumPy and CuPy take the same training steps from the same numbers: how far apart are they?
    ceilings    the fastest matrix product in each precision, and the fastest copy
    waits       how often a step makes the host wait for the card
    timing      one training step (both encoders, the loss, every gradient, AdamW, the bound of the temperature) against
                PyTorch, eager and compiled, in float32, TF32 and bfloat16, with the memory that it needs at most

Every side is a process of its own that keeps its parameters on the card and gives the rest back when its turn is over.
In a round each has its turn, and the next goes the other way about; a ratio is that of one round, and what is printed
is the median of the rounds, with the smallest and the largest. A turn begins with a step that is not timed. Before
anything is timed all sides have to agree, from the same parameters and inputs, on the loss and on gradients at both
ends of both towers. miniclip takes the batch as one micro-batch; where that does not fit, as four with recomputation,
which the table says. Everything is timed against PyTorch eager first, and with torch.compile while time is left.

The exit status is 2 where there is no CuPy or no card, 1 where something disagrees or a test fails, else 0. The results
are in benchmarks/results/gpu-<card>.json, written after each part; parts of an earlier run on this card are kept in it.
"""

import argparse
import importlib.util
import json
import os
import re
import sys
import time
from pathlib import Path

import gpu_parts
from common import NAMES, RESULTS, Disagree, Failed, NotPossible, Worker, machine, write_json
from gpu_timing import measure_timing, timing_table
from gpu_worker import CASES

PARTS = {  # the seconds that it may take, what measures it, what reports it
    "tests": (150, gpu_parts.run_tests, gpu_parts.report_tests),
    "agreement": (90, gpu_parts.measure_agreement, gpu_parts.report_agreement),
    "ceilings": (60, gpu_parts.measure_ceilings, gpu_parts.report_ceilings),
    "waits": (60, gpu_parts.measure_waits, gpu_parts.report_waits),
    "timing": (540, measure_timing, lambda result: ()),
}
LONGEST = 180  # seconds that one answer may take


def start(side):
    """A worker process for one side."""
    return Worker("gpu_worker.py", NAMES[side])


class Bench:
    """What the parts share: workers, the time that is left, and all that was found, which is written as it grows."""

    def __init__(self, options, start=start):
        self.options, self.start, self.path = options, start, options.json
        self.end = self.until = time.monotonic() + 60 * options.minutes
        self.running, self.found = {}, {}

    def ask(self, side, /, **command):
        """What a side's worker answers, which is started where it is not there. Raises Failed."""
        if self.left() < 1:
            raise Failed("the time was up")
        if side not in self.running:
            self.running[side] = self.start(side)
        try:
            answer = self.running[side].ask(min(LONGEST, self.left()), **command)
            if "failed" in answer:
                raise Failed(answer["failed"], answer.get("memory", False), answer.get("trace"))
            return answer["ok"]
        except Failed as failed:
            if not failed.memory:  # who knows what state it is in
                self.running.pop(side).close()
            traces = self.found.setdefault("traces", {})
            if failed.trace and str(failed) not in traces:  # each mistake is shown once
                traces[str(failed)] = failed.trace
                print(failed.trace, file=sys.stderr, flush=True)
            raise

    def left(self):
        """Seconds that the part may still take."""
        return self.until - time.monotonic()

    def save(self):
        write_json(self.found, self.path)

    def open(self):
        """Ask for the card; take up what an earlier run found on it. Raises Failed where there is none."""
        card = self.ask("ours", do="card")
        if self.path is None:
            self.path = RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', card['name'].lower()).strip('-')}.json"
        if self.path.exists():
            before = json.loads(self.path.read_text())
            if before.get("card", {}).get("name") == card["name"]:
                self.found = before
        self.found = {"parts": {}} | self.found | {"card": card, "machine": machine(os.cpu_count())}
        versions = f"CUDA {card['cuda']}, CuPy {card['cupy']}, NumPy {card['numpy']}"
        print(f"{card['name']}, {card['memory'] / 2**30:.0f} GiB; {versions}.", flush=True)

    def run(self, part):
        """One part, within its time; whatever happens is recorded. -> whether nothing disagreed"""
        most, measure, report = PARTS[part]
        start, good = time.monotonic(), True
        self.until = min(self.end, start + most)
        kept = self.found["parts"].get(part, {}) if part == "timing" else {}
        result = self.found["parts"][part] = {key: kept[key] for key in kept if key not in ("failed", "disagrees")}
        try:
            if self.left() < 1:
                raise Failed("the time was up before it began")
            measure(self, result)
        except Disagree as error:
            good, result["disagrees"] = False, str(error)
        except Failed as failed:
            result["failed"] = str(failed)
        except Exception as error:  # a mistake here must not lose the other parts
            result["failed"] = f"{type(error).__name__}: {error}"
        result |= {"seconds": round(time.monotonic() - start, 1), "time": time.strftime("%Y-%m-%d %H:%M")}
        self.save()
        print(f"\n{part}, {result['seconds']:.0f} s")
        bad = [f"{word}: {result[word]}" for word in ("failed", "disagrees") if word in result]
        for line in [*report(result), *bad]:
            print(f"  {line}", flush=True)
        return good


def parsed(arguments):
    """The options; NotPossible where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; may be given again")
    parser.add_argument("--case", action="append", choices=list(CASES), help="one model; may be given again")
    parser.add_argument(
        "--precision", action="append", choices=gpu_parts.PRECISIONS, help="one precision; may be given again"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; what does not fit is left out")
    parser.add_argument("--json", type=Path, help="where results go, instead of benchmarks/results/gpu-<card>.json")
    parser.add_argument("--quick", action="store_true", help="batches of 8 and small matrices, for tests")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not options.minutes > 0:
        raise NotPossible("--rounds is at least 1, and --minutes more than 0.")
    return options


def main(arguments=None, start=start):
    """Measure, print, write. start: what starts a side's worker. -> exit status"""
    bench, good = None, True
    try:
        options = parsed(arguments)
        if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
            raise NotPossible("CuPy is not installed: pip install 'miniclip[gpu]' on a machine with a graphics card.")
        bench = Bench(options, start)
        bench.open()
        for part in options.part or PARTS:
            good &= bench.run(part)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        for worker in bench.running.values() if bench else ():
            worker.close()
    parts = bench.found["parts"]
    rows = list(parts.get("timing", {}).get("rows", {}).values())
    if rows:
        print("\nIn brackets: miniclip's time divided by theirs, the median of the rounds, least to most.\n")
        print("\n".join(timing_table(rows, parts.get("ceilings"))))
    failed = [part for part in parts if "failed" in parts[part]]
    notes = [f"failed: {', '.join(failed)}"] * bool(failed) + ["something disagrees"] * (not good)
    print("\n" + "; ".join([str(bench.path), *notes]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
