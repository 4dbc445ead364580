"""The part of a notebook's code that one function needs, found in the syntax trees of its cells."""

import ast
import builtins
import copy
import symtable

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Slice:
    """The code that a function needs: the definitions of the names in it, and of the names in those.

    alone: without the answers to other exercises that it calls. The library's stand in for these, as for stubs.
    """

    def __init__(self, trees, function, alone=False):
        self.function, self.lines, self.seen = function, [], set()
        self.stars, self.defines = [], {}
        for node in [node for tree in trees for node in tree.body]:
            if isinstance(node, ast.FunctionDef) and node is not function and node.name in answered(node):
                if alone or is_stub(node):
                    continue
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                self.stars.append(node)
            for name in bound(node):
                self.defines[name] = node
        self.defines[function.name] = function

    def code(self):
        """The function and all that it needs, as text, in an order that runs."""
        for node in self.stars:
            self.lines.append(ast.unparse(node))
        self.enter(self.function)
        return "\n".join(self.lines)

    def enter(self, node):
        """The node, after what it needs when it runs, and before what a function needs only when it is called."""
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        now, later = needs(node)
        for name in now:
            self.need(name)
        self.lines.append(ast.unparse(plain(node)))
        for name in later:
            self.need(name)

    def need(self, name):
        """Enter the statement that defines a name, if one does."""
        if name in self.defines:
            self.enter(self.defines[name])


def bound(node):
    """The names that a statement at the top of a cell binds; of loops and other things that run, none."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name.partition(".")[0]) for alias in node.names if alias.name != "*"]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [
            n.id
            for target in targets
            for n in ast.walk(target)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]
    if isinstance(node, (ast.If, ast.Try)):
        inner = [*node.body, *node.orelse, *(h for handler in getattr(node, "handlers", ()) for h in handler.body)]
        return [name for statement in inner for name in bound(statement)]
    return []


def needs(node):
    """(names that a statement needs when it runs, those that it needs later, when the function is called)."""
    now, later = globals_of(ast.unparse(plain(node)))
    return (now, later) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else (now + later, [])


def globals_of(code):
    """The names that code reads, those at its top and those within its functions, that are not local there."""
    try:
        top = symtable.symtable(code, "notebook", "exec")
    except SyntaxError:  # what no syntax tree says, as two parameters of one name
        return [], []
    now = [symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()]
    tables, later = list(top.get_children()), []
    while tables:
        table = tables.pop()
        tables += table.get_children()
        later += [symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()]
    return now, later


def is_exercise(decorator):
    """Whether a decorator is the course's, @exercise("name")."""
    return isinstance(decorator, ast.Call) and last_name(decorator.func) == "exercise"


def plain(node):
    """A function without the decorator of the course and without annotations, which may need names; else the node."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node = copy.deepcopy(node)
        node.decorator_list = [d for d in node.decorator_list if not is_exercise(d)]
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
    return node


def unresolved(code):
    """The names that code reads and nothing in it binds, as what was imported in a cell that is gone."""
    now, later = globals_of(code)
    top = symtable.symtable(code, "notebook", "exec")
    given = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return sorted({*now, *later} - given - set(vars(builtins)))


# ------------------------------------------------------------------------------------------ answers to exercises


def answered(node):
    """The exercises that the decorators of a function name."""
    calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and last_name(d.func) == "exercise"]
    return [c.args[0].value for c in calls if c.args and isinstance(c.args[0], ast.Constant)]


def last_name(node):
    """The name, of a module's the last: exercise, of course.exercise."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_stub(node):
    """A function of which, or of one within which, nothing is written: `...`, `pass`, or not implemented."""
    body = node.body[1:] if is_text(node.body[0]) else node.body
    inner = [n for n in ast.walk(node) if isinstance(n, DEFINITIONS) and n is not node]
    return all(map(is_idle, body)) or any(is_stub(one) for one in inner if isinstance(one, ast.FunctionDef))


def is_text(node):
    """Whether a statement is a text alone, as a docstring is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_idle(node):
    """`...`, `pass`, `return`, `return None`, `raise NotImplementedError`."""
    if isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return last_name(error) == "NotImplementedError"
    if isinstance(node, (ast.Expr, ast.Return)):
        value = node.value
        return value is None or isinstance(value, ast.Constant) and value.value in (None, ...)
    return isinstance(node, ast.Pass)
