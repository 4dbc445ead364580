"""What does a training step cost on a graphics card here, and in PyTorch, and what is it up against?

    python benchmarks/gpu.py                                     everything, in at most ten minutes
    python benchmarks/gpu.py --part timing --case b32-256        one part, one model; the file keeps the others
    python benchmarks/gpu.py --part timing --precision bfloat16 --rounds 9 --minutes 20

Parts, in this order; one that fails is written down with its reason, and the next begins:

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
ends of both towers. miniclip takes the batch as one shard; where that does not fit, in four with recomputation, which
the table says. Everything is timed against PyTorch eager first, and once more with torch.compile while time is left.

The exit status is 2 where there is no CuPy or no card, 1 where something disagrees or a test fails, else 0. The results
are in benchmarks/results/gpu-<card>.json, written after each part; parts of an earlier run on this card are kept in it.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cpu import NAMES, NotPossible, machine, write_json
from gpu_parts import MEASURES, PRECISIONS, ROOT, TOLD, Disagree, Failed, timing_lines
from gpu_worker import CASES

PARTS = {"tests": 150, "agreement": 90, "ceilings": 60, "waits": 60, "timing": 540}  # seconds that each may take
LONGEST = 180  # that one answer may take


class Process:
    """A worker: `ask` sends it a command and waits for the answer, for so long and no longer."""

    def __init__(self, side):
        worker = Path(__file__).with_name("gpu_worker.py")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self.side = side
        self.process = subprocess.Popen(
            [sys.executable, str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def ask(self, seconds, command):
        """The worker's answer. Raises Failed with its sentence, or when it ended, or let us wait too long."""
        late = threading.Event()

        def stop():
            late.set()
            self.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            status = self.process.wait()
            raise Failed(
                f"{command['do']} took more than {seconds:.0f} s"
                if late.is_set()
                else f"the process of {NAMES[self.side]} ended with status {status} in {command['do']}"
            )
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"], answer.get("memory", False), answer.get("trace"))
        return answer["ok"]

    def kill(self):
        """End it, and the processes that it started to compile with."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # what it was never told
                pass


class Bench:
    """What the parts share: workers, the time that is left, and all that was found, which is written as it grows."""

    def __init__(self, options, process=Process, clock=time.monotonic):
        self.options, self.process, self.clock = options, process, clock
        self.end = clock() + 60 * options.minutes
        self.until, self.running, self.found, self.path = self.end, {}, {}, options.json

    def ask(self, side, /, **command):
        """What a side's worker answers, which is started where it is not there."""
        if self.left() < 1:
            raise Failed("the time was up")
        worker = self.running.get(side) or self.running.setdefault(side, self.process(side))
        try:
            return worker.ask(min(LONGEST, self.left()), command)
        except Failed as failed:
            if not failed.memory:  # who knows what state it is in
                self.drop(side)
            traces = self.found.setdefault("traces", {})
            if failed.trace and str(failed) not in traces:  # each mistake is shown once
                traces[str(failed)] = failed.trace
                print(failed.trace, file=sys.stderr, flush=True)
            raise

    def drop(self, side):
        worker = self.running.pop(side, None)
        if worker is not None:
            worker.close()

    def left(self):
        """Seconds that the part may still take."""
        return self.until - self.clock()

    def save(self):
        if self.path is not None:
            write_json(self.found, self.path)

    def open(self):
        """Ask for the card; take up what an earlier run found on it. Raises NotPossible where there is none."""
        try:
            card = self.ask("ours", do="card")
        except Failed as failed:
            raise NotPossible(str(failed)) from None
        if self.path is None:
            slug = re.sub("[^a-z0-9]+", "-", card["name"].lower()).strip("-")
            self.path = Path(__file__).parent / "results" / f"gpu-{slug}.json"
        if self.path.exists():
            before = json.loads(self.path.read_text())
            if before.get("card", {}).get("name") == card["name"]:
                self.found = before
        self.found |= {"card": card, "machine": machine(os.cpu_count())}
        self.found.setdefault("parts", {})
        print(
            f"{card['name']}, {card['memory'] / 2**30:.0f} GiB; CUDA {card['cuda']}, CuPy {card['cupy']}, "
            f"NumPy {card['numpy']}.",
            flush=True,
        )

    def run(self, part, measure):
        """One part, within its time; whatever happens is written down. -> whether nothing disagreed"""
        start, good = self.clock(), True
        self.until = min(self.end, start + PARTS[part])
        result = self.found["parts"][part] = self.found["parts"].get(part, {}) if part == "timing" else {}
        for old in ("failed", "disagrees"):
            result.pop(old, None)
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
        result |= {"seconds": round(self.clock() - start, 1), "time": time.strftime("%Y-%m-%d %H:%M")}
        self.save()
        print(
            "\n"
            + "\n".join(
                [
                    f"{part}, {result['seconds']:.0f} s",
                    *TOLD[part](result),
                    *(f"  {word}: {result[word]}" for word in ("failed", "disagrees") if word in result),
                ]
            ),
            flush=True,
        )
        return good


def parsed(arguments):
    """The options; NotPossible where they make no sense together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; may be given again")
    parser.add_argument("--case", action="append", choices=list(CASES), help="one model; may be given again")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="one precision; may be given again")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; what does not fit is left out")
    parser.add_argument("--json", type=Path, help="where results go, instead of benchmarks/results/gpu-<card>.json")
    parser.add_argument("--quick", action="store_true", help="batches of 8 and small matrices, for tests")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not options.minutes > 0:
        raise NotPossible("--rounds is at least 1, and --minutes more than 0.")
    return options


def main(arguments=None, process=Process):
    """Measure, print, write. -> exit status"""
    bench, good = None, True
    try:
        options = parsed(arguments)
        if process is Process and importlib.util.find_spec("cupy") is None:
            raise NotPossible("CuPy is not installed: pip install 'miniclip[gpu]' on a machine with a graphics card.")
        bench = Bench(options, process)
        bench.open()
        for part in options.part or PARTS:
            good &= bench.run(part, MEASURES[part])
    except NotPossible as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        for side in list(bench.running if bench else ()):
            bench.drop(side)
    parts = bench.found["parts"]
    rows = list(parts.get("timing", {}).get("rows", {}).values())
    if rows:
        print(
            "\nIn brackets: miniclip's time divided by theirs, the median of the rounds, least to most.\n\n"
            + "\n".join(timing_lines(rows, parts.get("ceilings")))
        )
    failed = [part for part in parts if "failed" in parts[part]]
    print(
        f"\n{bench.path}"
        + (f"; failed: {', '.join(failed)}" if failed else "")
        + ("" if good else "; something disagrees")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
