"""A student's function, taken from a notebook, in a process of its own: called with arrays, it answers with arrays.

    python -m miniclip.course.child SECONDS SECONDS BYTES

The seconds are of computing, in one call and in all. On standard input {"code", "name"} comes, then calls. What the
function prints is lost, and it has no input. The judge is on the other side (process.py).
"""

import inspect
import math
import os
import sys
import threading
import time
import warnings

import numpy as np

from .arrays import pack, read, unpack, write
from .library import Watch
from .names import names_for


def main():
    """Serve one function until there are no more calls."""
    seconds, seconds_in_all, size = map(int, sys.argv[1:4])
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    limit("RLIMIT_AS", size)
    limit("RLIMIT_CORE", 0)
    last = time.process_time() + seconds_in_all
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), number)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    functions = []

    def handle(function):
        functions.append(function)
        return {"handle": len(functions) - 1, "name": name_of(function), "parameters": parameters(function)}

    while (data := read(calls)) is not None:
        limit("RLIMIT_CPU", math.ceil(min(time.process_time() + seconds, last)))
        try:
            answer = serve(unpack(data), functions)
        except BaseException as error:  # whatever the student's code may raise, an exit too
            answer = {"raised": type(error).__name__, "said": first_line(error)}
        try:
            packed = pack(answer, handle)
        except Exception as error:
            packed = pack({"raised": type(error).__name__, "said": "what it returns cannot be read"})
        write(answers, packed)


def serve(message, functions):
    """{"code", "name"}: define it. {"call", "args", "watch"}: call the function of that number."""
    if "code" in message:
        space = names_for(message["code"])
        exec(compile(message["code"], "notebook", "exec"), space)
        return {"result": space[message["name"]]}
    with Watch(message.get("watch", ())) as watch:
        result = functions[message["call"]](*message["args"], **message["named"])
    return {"result": result, "used": sorted(watch.used)}


def limit(what, amount):
    """No more than this of the processor or of memory, where the system has such limits: else the judge has a clock."""
    try:
        import resource

        hard = resource.getrlimit(number := getattr(resource, what))[1]
        resource.setrlimit(number, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))
    except (ImportError, AttributeError, ValueError, OSError):  # Windows, or a system without this one
        pass


def end_with(parent):
    """End this process when the judge's is gone, whatever the student's code is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def name_of(function):
    """What a function is called, cut where it is long: the name is the student's."""
    return str(getattr(function, "__name__", type(function).__name__))[:80]


def parameters(function):
    """[[name, kind, whether it may be left out]] of a function, None where it has no signature."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in given]


def first_line(error):
    """The first line of an exception's text, cut where it is long; "" where it has none."""
    try:
        return (str(error).strip().splitlines() or [""])[0][:300]
    except Exception:  # a class of the student's
        return ""


if __name__ == "__main__":
    main()
