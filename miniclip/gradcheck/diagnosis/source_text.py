"""How a step of the forward pass is written in its source, for sentences about it."""

import ast
import linecache
from functools import lru_cache


@lru_cache(1000)
def positions(code):
    """Where each instruction of a code object stands: [(line, last line, column, last column)].

    Not the instruction tells where a call is made, but its position: Python exchanges instructions while it runs.
    """
    return list(code.co_positions())


@lru_cache(1000)
def source_of(call):
    """(text, line): the expression of a call, as it is written, and its line; ("", line) where it cannot be read."""
    code, (line, last, start, end) = call
    text = linecache.getline(code.co_filename, line) if line is not None and line == last else ""
    return (text.encode()[start:end].decode() if start is not None else ""), line


def place(step):
    """ "`x.var(0)` (line 12)"; of what cannot be read, its name and line."""
    text, line = source_of(step.site[0])
    text = f"`{text if 0 < len(text) <= 60 else step.name}` (line {line})"
    if any(other.site[0] == step.site[0] and other.site != step.site for other in step.trace.steps):
        outer, line = source_of(step.site[1])
        text += f" of `{outer}` (line {line})" if 0 < len(outer) <= 60 else ""
    return text


def operand(step, i):
    """The text of an input, as it is written; else "the first operand"."""
    text, _ = source_of(step.site[0])
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        node = None
    if isinstance(node, ast.BinOp) and i < 2:
        return f"`{ast.unparse((node.left, node.right)[i])}`"
    args = [arg for arg in getattr(node, "args", ()) if not isinstance(arg, ast.Constant) or type(arg.value) is not str]
    if i < len(args) and not isinstance(args[0], ast.List | ast.Tuple):
        return f"`{ast.unparse(args[i])}`"
    return f"the {('first', 'second', 'third')[i]} operand" if i < 3 else f"operand {i + 1}"
