"""The command line: python -m miniclip train | evaluate | search | classify | gradcheck."""

import argparse
import os
import sys
import warnings
from textwrap import fill

from .backend import out_of_memory
from .commands import (
    CLASSIFY,
    EVALUATE,
    GRADCHECK,
    SEARCH,
    TRAIN,
    run_classify,
    run_evaluate,
    run_gradcheck,
    run_search,
    run_train,
)
from .training import TrainingDiverged


def main(arguments=None):
    """Run one command. Exit status 0, 1 where a gradient is wrong, or 2 with one sentence for bad input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # where a terminal or a pipe has no τ, a ? stands for it
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    warnings.formatwarning = in_one_line
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read this has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, TrainingDiverged, MemoryError) as error:
        sentence = out_of_memory(error) if isinstance(error, MemoryError) else error
        print(f"miniclip: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miniclip: interrupted; a training run goes on with --resume.", file=sys.stderr)
        return 130


def in_one_line(message, category, filename, lineno, line=None, full=warnings.formatwarning):
    """A warning as text: our own in a line, as errors are; others with their place in the code."""
    return f"miniclip: {message}\n" if category is UserWarning else full(message, category, filename, lineno, line)


COMMANDS = (
    ("train", run_train, TRAIN, "Train CLIP and evaluate it zero-shot.", "--data photos/ --out runs/photos"),
    ("evaluate", run_evaluate, EVALUATE, "Zero-shot accuracy of a checkpoint.", "emoji"),
    ("search", run_search, SEARCH, "Find emoji by a description.", '"yellow fruit" --style noto'),
    ("classify", run_classify, CLASSIFY, "Name a picture, given the possible names.",
     'picture.png --labels "a dog,a cat,a red car"'),
    ("gradcheck", run_gradcheck, GRADCHECK, "Prove a backward pass of yours, or every one of the library, against its "
     "forward pass, by the complex step and central differences. Exit status 0: all are right; 1: one is wrong or "
     "could not be checked; 2: bad use, or an exception.", "homework.py::batchnorm --shape x=4x5 --shape gamma=5"),
)  # fmt: skip


def parser():
    """The argparse parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m miniclip", description="CLIP by hand in NumPy and CuPy.")
    commands = top.add_subparsers(required=True, metavar="command")
    for name, run, flags, text, example in COMMANDS:
        unwrapped = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # an example is there to be copied
        epilog = f"example: python -m miniclip {name} {example}"
        command = commands.add_parser(name, help=text, description=fill(text), epilog=epilog, **unwrapped)
        command.set_defaults(run=run)
        if name != "gradcheck":
            command.add_argument(
                "--device", choices=("cpu", "gpu"), default="cpu", help="where to compute (default: cpu)"
            )
        for names, settings, words in flags:
            command.add_argument(*names.split(), help=words, **settings)
    return top
