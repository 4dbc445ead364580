"""The judge's side of a student's process: a function that is called there, and what is said where it fails."""

import builtins
import inspect
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from keyword import iskeyword

from .arrays import BadMessage, pack, read, unpack, write

SECONDS_OF_A_CALL = 10  # of the processor's time: on a busy machine a right answer may have to wait
SECONDS_OF_AN_EXERCISE = 60
PATIENCE = 100  # seconds of the clock for one call, or the start, where nothing is computed either: sleep, a deadlock
LONGEST = 600  # for a whole exercise
BYTES = 4 << 30  # of address space: threads and libraries take some of it


class Ended(Exception):
    """The student's process is no more; the text says why."""


class StudentProcess:
    """`with StudentProcess(code, name) as process`: process.function is called there.

    `.failure`: why it ended, a sentence without a subject, or "".
    """

    def __init__(self, code, name):
        self.failure, self.ends = "", float("inf")
        limits = map(str, (SECONDS_OF_A_CALL, SECONDS_OF_AN_EXERCISE, BYTES))
        command = [sys.executable, "-m", "miniclip.course.child", *limits]
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(p for p in sys.path if p)  # the library as it is found here
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=os.environ | threads | {"PYTHONPATH": path}, **pipes)
        self.answers = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.function, self.code, self.name = None, code, name
        self.watched, self.used = (), set()  # functions of the library, and which of them were called

    def __enter__(self):
        try:
            self.ends = time.monotonic() + LONGEST
            self.function = self.ask({"code": self.code, "name": self.name})
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the student's process, and let go of its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # what was left to be said goes to nobody
                pass

    def listen(self):
        """Hand on what comes, then None."""
        try:
            while (data := read(self.process.stdout)) is not None:
                self.answers.put(data)
        except (BadMessage, ValueError, OSError):
            pass
        self.answers.put(None)

    def ask(self, message):
        """One call -> what it returns, with functions that are called there. Raises what the student's code raised."""
        if self.failure:
            raise Ended(self.failure)
        try:
            write(self.process.stdin, pack(message))
            data = self.answers.get(timeout=max(0.1, min(PATIENCE, self.ends - time.monotonic())))
        except queue.Empty:
            self.fail("it did not return for a long time: does it wait for something?")
        except OSError:
            data = None
        if data is None:
            self.fail(self.why_ended())
        try:
            answer = unpack(data, self.remote)
        except BadMessage:
            self.fail("what it returns cannot be read.")
        if not isinstance(answer, dict) or not {"result", "raised"} & answer.keys():
            self.fail("what it returns cannot be read.")
        if "raised" in answer:
            raise as_raised(str(answer["raised"]), str(answer.get("said", "")))
        self.used.update(map(str, answer.get("used", ())))
        return answer["result"]

    def why_ended(self):
        """What became of the process, which says nothing more."""
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:  # it lives, and what it said is no answer
            status = None
        if status is not None and -status == getattr(signal, "SIGXCPU", None):
            return f"it did not return within {SECONDS_OF_A_CALL} seconds of computing: does a loop never end?"
        return "it ended its process: does it call exit, or take too much memory?"

    def fail(self, why):
        """End the process for a reason, which `Ended` carries."""
        self.failure = why
        self.process.kill()
        raise Ended(why)

    def remote(self, node):
        """A function of the student's process, to be called from here, with the name and signature of the original."""
        number, parameters = int(node["handle"]), node.get("parameters")

        def call(*args, **named):
            watched = {"watch": self.watched} if self.watched else {}
            return self.ask({"call": number, "args": args, "named": named} | watched)

        function = call if parameters is None else with_parameters(call, parameters)
        function.__name__ = function.__qualname__ = str(node.get("name"))[:80]
        function.library_used = self.library_used
        return function

    def library_used(self, functions, run):
        """{name}: which of these functions of the library are called in the student's process while `run()` runs."""
        self.watched, self.used = tuple(functions), set()
        try:
            run()
        finally:
            self.watched = ()
        return self.used


class LeftOut:
    """The default of a parameter that may be left out: what it is, is known on the other side."""

    __repr__ = lambda self: "LEFT_OUT"


def with_parameters(call, parameters):
    """A function of these parameters, [[name, kind, whether it may be left out]], that hands on what it is given.

    Not only with their signature: how many it takes is looked up in its code.
    """
    empty, left_out = inspect.Parameter.empty, LeftOut()
    known = [(str(name), inspect._ParameterKind(kind), optional) for name, kind, optional in parameters]
    if not all(name.isidentifier() and not iskeyword(name) for name, _, _ in known):
        raise BadMessage("a parameter has no name")
    given = [inspect.Parameter(name, kind, default=left_out if optional else empty) for name, kind, optional in known]

    def hand_on(values):
        args, named, in_order = [], {}, True
        for name, kind, _ in known:
            if kind is kind.VAR_POSITIONAL:
                args += values[name]
            elif kind is kind.VAR_KEYWORD:
                named |= values[name]
            elif isinstance(values[name], LeftOut):
                in_order = False  # what follows has to be named
            elif in_order and kind is not kind.KEYWORD_ONLY:
                args.append(values[name])
            else:
                named[name] = values[name]
        return call(*args, **named)

    return maker_of(str(inspect.Signature(given))[1:-1])(hand_on, left_out)


@lru_cache
def maker_of(parameters):
    """Makes functions of these parameters: each backward pass is one, and most have the same."""
    return eval(f"lambda hand_on, LEFT_OUT: lambda {parameters}: hand_on(locals())")


def as_raised(name, said):
    """An exception with the name and the text of the one that was raised there."""
    known = getattr(builtins, name, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        known = type(name if name.isidentifier() else "Exception", (Exception,), {})
    try:
        return known(said)
    except TypeError:  # it wants more than a text, as UnicodeDecodeError does
        return Exception(f"{name}: {said}")
