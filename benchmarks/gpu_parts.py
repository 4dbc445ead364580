"""The parts of benchmarks/gpu.py but the timing: each measures into a dict, and one more function reports it."""

import os
import signal
import subprocess
import sys
import tempfile

from common import ROOT, Disagree, Failed
from gpu_worker import CASES

TESTS = ("tests/gpu/test_on_cupy.py", "tests/gpu/test_kernels.py")
PRECISIONS = ("bfloat16", "tf32", "float32")
# NumPy and CuPy after a step: (loss, gradient, parameters). Later steps start from parameters that differ already.
APART = ("loss_apart", "gradient_apart", "parameters_apart")
STEPS_APART = {"float64": (1e-9, 1e-7, 1e-9), "float32": (1e-3, 0.05, 1e-3)}


def run_tests(bench, result):
    """Run the tests that have a card's arrays in them, and those on the double as well."""
    command = [sys.executable, "-m", "pytest", "-m", "double or not double", *TESTS, "-q", "-p", "no:cacheprovider"]
    with tempfile.TemporaryFile("w+") as output:
        where = {"cwd": ROOT, "stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen([*command, "-ra"], **where)
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


def report_tests(result):
    if result.get("summary"):
        yield result["summary"]


def measure_agreement(bench, result):
    """NumPy against CuPy, step by step, of two models in two dtypes."""
    wrong, steps, batch = [], *((2, 8) if bench.options.quick else (4, 64))
    for name in ("default", "vit-tiny"):
        for dtype, allowed in STEPS_APART.items() if name in (bench.options.case or CASES) else ():
            found = bench.ask("ours", do="agreement", name=name, dtype=dtype, steps=steps, batch=batch)
            result[f"{name}, {dtype}"] = found
            for step, row in enumerate(found["steps"], 1):
                if not all(row[key] <= most for key, most in zip(APART, allowed)):
                    wrong.append(f"{name} in {dtype} after step {step}")
    if wrong:
        raise Disagree(f"NumPy and CuPy differ by too much: {', '.join(wrong)}")


def report_agreement(result):
    for name, found in result.items():
        if isinstance(found, dict):
            loss, gradient, parameters = (max(row[key] for row in found["steps"]) for key in APART)
            yield (
                f"{name}, {len(found['steps'])} steps of {found['batch']}: at most apart, relative: loss {loss:.1e}, "
                f"gradient {gradient:.1e}, parameters {parameters:.1e}"
            )


def measure_ceilings(bench, result):
    """The fastest product in each precision, and the fastest copy."""
    quick = bench.options.quick
    for precision in (*PRECISIONS, "float16"):
        try:
            result[precision] = bench.ask("ours", do="product_rate", precision=precision, quick=quick)
        except Failed as failed:  # without ml_dtypes there is no bfloat16
            result[precision] = str(failed)
    result["bytes_per_second"] = bench.ask("ours", do="bandwidth", quick=quick)


def report_ceilings(result):
    for precision in (*PRECISIONS, "float16"):
        rate = result.get(precision)
        if rate is not None:
            yield f"{precision}: " + (f"{rate:.0f} TFLOP/s" if isinstance(rate, float) else rate)
    if "bytes_per_second" in result:
        yield f"a copy: {result['bytes_per_second'] / 1e12:.2f} TB/s, read and written"


def measure_waits(bench, result):
    """What makes the host wait in a step."""
    precision = (bench.options.precision or ["float32"])[0]
    for name in bench.options.case or ("default", "vit-tiny", "b32-256"):
        bench.ask("ours", do="load", side="ours", name=name, precision=precision, quick=bench.options.quick)
        result[f"{name}, {precision}"] = bench.ask("ours", do="waits")


def report_waits(result):
    for name, found in result.items():
        if isinstance(found, dict):
            places = ", ".join(f"{place} × {count}" for place, count in found["places"].items())
            yield (
                f"{name}: {found['count']} in a step{f' ({places})' * bool(places)}; launched in "
                f"{found['launched'] * 1000:.1f} ms, done in {found['done'] * 1000:.1f} ms; counted by wrapping "
                f"{', '.join(found['wrapped'])}"
            )
