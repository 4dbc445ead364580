"""What the benchmarks share: worker processes that take turns, their comparison, the machine, the file of results."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np

FOLDER = Path(__file__).resolve().parent
ROOT, RESULTS = FOLDER.parent, FOLDER / "results"
sys.path.append(str(ROOT))  # for a machine where miniclip is not installed

NAMES = {
    "ours": "miniclip",
    "beside": "miniclip, beside",
    "floor": "its matrix products alone",
    "torch": "PyTorch",
    "compile": "torch.compile",
    "jax": "JAX, jitted",
}
# No worker process gets these: they choose BLAS's kernels or its threads.
BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# How far two sides may differ, relative: the loss, a gradient, and a gradient of a ResNet, where a ReLU's input that is
# 0 up to rounding falls on either side of the kink. bfloat16 keeps 8 binary places, TF32 10.
ALLOWED = {"float32": (1e-4, 2e-3, 0.05), "tf32": (2e-3, 0.1, 0.3), "bfloat16": (0.05, 0.3, 0.6)}


class NotPossible(Exception):
    """Why something cannot be measured here, in one sentence. status: the exit status."""

    status = 2


class Failed(NotPossible):
    """Why a worker did not answer. memory: whether memory ran out; trace: where it happened, or None."""

    def __init__(self, reason, memory=False, trace=None):
        super().__init__(reason)
        self.memory, self.trace = memory, trace


class Disagree(NotPossible):
    """Two sides compute different things."""

    status = 1


def environment():
    """The environment of a worker process."""
    return {name: value for name, value in os.environ.items() if name not in BLAS_VARIABLES}


class Worker:
    """A script of this folder in a process of its own, which answers each line of JSON with another one.

    name: what it is called in a report; arguments: of its command line; library: a folder with another miniclip.
    """

    def __init__(self, script, name, *arguments, library=None):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | ({"PYTHONPATH": str(library)} if library else {}),
            start_new_session=True,  # so that what it starts ends with it
        )

    def ask(self, seconds=3600, **command):
        """The answer to a command. Raises Failed when the process ends first or takes longer, and is then ended."""
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), self.kill()))
        timer.start()
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        status = self.process.wait()
        if late.is_set():
            raise Failed(f"{command['do']} took more than {seconds:.0f} s")
        raise Failed(f"the process of {self.name} ended with status {status} in {command['do']}")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # a command that it did not read
                pass


def in_turns(runs, rounds):
    """{name: function that returns seconds} -> {name: the seconds of each round}.

    In a round each has its turn, and the next round goes the other way about: a machine that is slow for a while is
    slow for all.
    """
    seconds = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            seconds[name].append(runs[name]())
    return seconds


def timer(f, times=1):
    """A function that returns the seconds that f() takes, the mean of so many calls."""

    def seconds():
        start = time.perf_counter()
        for _ in range(times):
            f()
        return (time.perf_counter() - start) / times

    return seconds


def repeats(seconds, turn, most=50):
    """How many runs of so many seconds fill a turn."""
    return max(1, min(most, round(turn / seconds)))


def ratios(seconds, over, under):
    """(median, smallest, largest) of `over` / `under`, round by round. seconds: as `in_turns` returns them."""
    each = [a / b for a, b in zip(seconds[over], seconds[under])]
    return median(each), min(each), max(each)


def compare(losses, gradients, resnet, precision="float32"):
    """How far each side is from miniclip, relative: {side: (loss, worst gradient)}. Raises Disagree for too far.

    losses: {side: number}; gradients: {side: {parameter: array}}; one side is "ours".
    """
    found, (most, *most_gradient) = {}, ALLOWED[precision]
    ours = {name: array.astype(np.float64) for name, array in gradients["ours"].items()}
    for side, loss in losses.items():
        apart = abs(loss - losses["ours"]) / abs(losses["ours"])
        errors = {
            name: float(np.linalg.norm(array - ours[name]) / np.linalg.norm(ours[name]))
            for name, array in gradients[side].items()
            if name in ours
        }
        worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf), default="none")
        same_names = gradients[side].keys() == ours.keys() and errors
        if not (same_names and apart <= most and errors[worst] <= most_gradient[bool(resnet)]):
            raise Disagree(
                f"{NAMES.get(side, side)} has the loss {loss:.6f}, miniclip {losses['ours']:.6f}; of the gradients "
                f"{worst} differs most, by {errors.get(worst, 1):.2g}. Sides that compute different things are not "
                "timed."
            )
        found[side] = apart, errors[worst]
    return found


def machine(threads):
    """What the numbers depend on besides the code: a dict."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "set": {key: os.environ[key] for key in os.environ if key.startswith("OPENBLAS") or key in BLAS_VARIABLES},
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def describe(where):
    """The machine as two sentences."""
    variables = ", ".join(f"{key}={value}" for key, value in where["set"].items())
    return (
        f"{where['processor']}, {where['threads']} threads of {where['processors']} processors, "
        f"Python {where['python']}; load average at the start {' '.join(map(str, where['load']))}.\n"
    ) + (
        f"The environment had {variables}; the workers ran without."
        if variables
        else "No variable of the environment chose BLAS's kernels or threads."
    )


def write_json(found, path):
    """Write a temporary file, then rename it: there is never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, path)
