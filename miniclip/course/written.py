"""Is there anything in a function? A stub is one whose body, or that of a function within it, is `...` alone."""

import dis
import inspect
import types

IDLE = {"RESUME", "NOP", "COPY_FREE_VARS", "MAKE_CELL", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "POP_TOP"}


def is_unwritten(function):
    """Whether a function is a stub: `...`, `pass` or `raise NotImplementedError`, itself or one defined in it."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code is not None and is_stub(code)


def is_stub(code):
    """Whether code, or a function in it, does nothing yet."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    named = [one for one in inner if not one.co_name.startswith("<")]  # no lambda, no comprehension
    return is_idle(code) or any(map(is_stub, named))


def is_idle(code):
    """Whether code does nothing but return None or say that it is not implemented."""
    steps = list(dis.get_instructions(code))
    if all(step.opname in IDLE for step in steps):
        return all(step.argval is None for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST"))
    names = {step.argval for step in steps if step.opname.startswith("LOAD_GLOBAL")}
    return names == {"NotImplementedError"} and len(steps) <= 8
