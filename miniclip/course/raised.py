"""What was raised where a student's function was called, in words, and whether it was the function."""

import inspect
import traceback


def said(error):
    """An exception in words: its name and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0][:200].rstrip('.') if lines else ''}"


def said_inside(function, error):
    """An exception of a larger function in which a student's stands: it raised it, or what is beside it did.

    The library's layers refuse what does not fit, by the name of the layer that refuses.
    """
    file = inspect.unwrap(function).__code__.co_filename
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    return f"{'it raised' if file in files else 'what it returns does not fit:'} {said(error)}"
