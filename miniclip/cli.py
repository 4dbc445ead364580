"""The command line: python -m miniclip and one of the commands in commands/table.py."""

import argparse
import os
import sys
import warnings
from importlib import import_module
from textwrap import fill

from .commands import COMMANDS


def main(arguments=None):
    """Run one command. Exit status 0, 1 where a gradient is wrong, or 2 with one sentence for bad input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # where a terminal or a pipe has no τ, a ? stands for it
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(words[:1]).parse_args(words)
    warnings.formatwarning = in_one_line
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read this has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, MemoryError, ArithmeticError) as error:
        print(f"miniclip: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "; a training run goes on with --resume" if words[0] == "train" else ""
        print(f"miniclip: interrupted{goes_on}.", file=sys.stderr)
        return 130


def sentence(error):
    """What an exception says to whoever started the command; it is raised again where it is a fault of this program."""
    if isinstance(error, MemoryError):
        from .backend import out_of_memory

        return out_of_memory(error)
    if isinstance(error, ArithmeticError):
        from .training import TrainingDiverged

        if not isinstance(error, TrainingDiverged):
            raise error
    return error


def in_one_line(message, category, filename, lineno, line=None, full=warnings.formatwarning):
    """A warning as text: our own in a line, as errors are; others with their place in the code."""
    return f"miniclip: {message}\n" if category is UserWarning else full(message, category, filename, lineno, line)


def parser(chosen=COMMANDS):
    """The argparse parser of all commands. Of those that are not chosen it knows no flags, and imports nothing."""
    top = argparse.ArgumentParser(prog="python -m miniclip", description="CLIP by hand in NumPy and CuPy.")
    commands = top.add_subparsers(required=True, metavar="command")
    for name, (text, example) in COMMANDS.items():
        unwrapped = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # an example is there to be copied
        epilog = f"example: python -m miniclip {name} {example}"
        command = commands.add_parser(name, help=text, description=fill(text), epilog=epilog, **unwrapped)
        if name not in chosen:
            continue
        module = import_module(f".commands.{name}", __package__)
        command.set_defaults(run=getattr(module, f"run_{name}"))
        if name not in ("gradcheck", "grade", "bug", "index"):
            command.add_argument(
                "--device", choices=("cpu", "gpu"), default="cpu", help="where to compute (default: cpu)"
            )
        for names, settings, words in getattr(module, name.upper()):
            command.add_argument(*names.split(), help=words, **settings)
    return top
