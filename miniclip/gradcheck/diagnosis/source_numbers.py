"""The numbers that stand in the source of what is checked: tau = 0.1, a default p=0.25, 0.7 in an expression.

A gradient that is off by a factor is often off by one of them.
"""

import ast
import inspect
import linecache
import types
from functools import lru_cache

CALLS = 30  # functions whose source is read


def source_numbers(functions):
    """[(value, name or "", where)] of the numbers that the given functions and objects hold, 0, 1 and 2 apart."""
    found, queue, seen = [], list(functions), set()
    while queue and len(seen) < CALLS:
        holder = queue.pop(0)
        holder = inspect.unwrap(getattr(holder, "__func__", holder))
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        if isinstance(holder, types.FunctionType):
            held, of_module = closed_over(holder), known_by_name(holder)
            found += literals(holder.__code__)
        else:
            held, of_module = getattr(holder, "__dict__", {}), vars(type(holder))
        queue += [value for value in held.values() if isinstance(value, types.FunctionType)]
        queue += [value for value in of_module.values() if is_of_module(value, holder)]
        found += [(value, name, "held by it") for name, value in (held | dict(of_module)).items() if is_number(value)]
    unique = {(abs(float(value)), name): where for value, name, where in found if abs(value) not in (0, 1, 2)}
    return [(value, name, where) for (value, name), where in unique.items() if not name.startswith("__")]


def is_number(value):
    """Whether this is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_of_module(value, holder):
    """Whether a value is a function, written in the module where its holder is."""
    return isinstance(value, types.FunctionType) and value.__module__ == getattr(holder, "__module__", None)


def closed_over(function):
    """What a function closes over, and the defaults of its arguments."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    values = {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}
    arguments, defaults = function.__code__.co_varnames[: function.__code__.co_argcount], function.__defaults__ or ()
    return values | dict(zip(arguments[::-1], defaults[::-1])) | (function.__kwdefaults__ or {})


def known_by_name(function):
    """The globals that a function's code names, or the functions within it."""
    codes, names = [function.__code__], set()
    for code in codes:
        names |= set(code.co_names)
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    return {name: function.__globals__[name] for name in sorted(names & function.__globals__.keys())}


def literals(code):
    """[(value, name or "", where)] of the numbers in the lines of a function."""
    lines = range(code.co_firstlineno, last_line(code) + 1)
    return [(value, name, f"line {line}") for line, value, name in numbers_in(code.co_filename) if line in lines]


def last_line(code):
    """The last line of some compiled code and of what is defined in it."""
    inner = [last_line(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return max([code.co_firstlineno, *inner, *(line for *_, line in code.co_lines() if line)])


@lru_cache(16)
def numbers_in(file):
    """[(line, value, name or "")] of the numbers in a file; the name is what a number is assigned to."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Attribute):
            names[node.value] = ast.unparse(node.targets[0])
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and hasattr(node.targets[0], "elts"):
            names |= {value: ast.unparse(name) for value, name in zip(node.value.elts, node.targets[0].elts)}
        elif isinstance(node, ast.keyword) and node.arg:
            names[node.value] = node.arg
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and is_number(node.value)]
    return [(node.lineno, float(node.value), names.get(node, "")) for node in constants]
