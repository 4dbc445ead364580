"""The command line, for tests: run it, and read how it refuses."""

import signal
import subprocess
import sys

from PIL import Image, ImageDraw

from miniclip.cli import main

COLOURS = ["red", "green", "blue", "yellow", "black", "orange"]


def command(*arguments):
    """python -m miniclip … in this process -> its exit status."""
    return main(list(map(str, arguments)))


def python(*arguments):
    """python -m miniclip … in a process of its own."""
    words = [sys.executable, "-m", "miniclip", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def refused(capsys, *arguments):
    """The one sentence on standard error with which a command is refused."""
    assert command(*arguments) == 2
    return sentence(capsys.readouterr().err)


def sentence(errors):
    """The only line of what was printed on standard error."""
    lines = errors.splitlines()
    assert len(lines) == 1 and lines[0].startswith("miniclip: "), errors
    assert len(lines[0]) < 600 and "Traceback" not in lines[0] and "Errno" not in lines[0]
    return lines[0]


def draw(path, colour, corner, size=(40, 36)):
    """A picture file: a rectangle of one colour on white."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle([corner, corner, corner + 20, corner + 14], fill=colour)
    picture.save(path)


def listen_to_ctrl_c():
    """For a process that is about to be started: a shell has its background jobs ignore SIGINT, and they inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
