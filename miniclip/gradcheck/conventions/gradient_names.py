"""Which gradient belongs to which argument: whatever a backward pass returns, by the names of the arguments.

A gradient may be an array, a tuple or list in the order of the arguments, a dict by name ("W", "dW", "grad_W"), or a
tree that mirrors its argument. With fewer entries than arguments, each goes to the first that is left and whose shape
it has.
"""

from collections.abc import Iterator, ValuesView

import numpy as np

from ..refusals import CannotCheck
from .arguments import Slot, children
from .arrays import described, is_array, is_number, to_numpy
from .data import EXAMPLES, LEARNED
from .naming import are_resolved, is_keyed, plain_names, resolve, slots, targets, to_array


class GradientNames:
    """Names what a backward pass returned.

    tops: {argument: its tree, `Slot` where an array of floats stands}, also of arguments that were not handed over;
    leaves: {name: array}; names: those to differentiate; optional: those that may have a gradient; by_name_only:
    arguments whose gradients are in no order; starred: those of *xs. `.notes` are sentences for the report.
    """

    def __init__(self, tops, leaves, names, optional=(), by_name_only=(), starred=()):
        self.tops, self.leaves, self.starred, self.notes = tops, leaves, starred, []
        self.is_loss = False  # of which gradients of the data may be left out, once that is known
        in_order = [top for top in tops if top not in by_name_only]
        required = [top for top in in_order if set(slots(tops[top])) & set(names)]
        possible = [top for top in in_order if set(slots(tops[top])) & {*names, *optional}]
        self.floats = [top for top in in_order if slots(tops[top])]
        self.expected = required or possible
        arrays = [name for top in self.expected for name in slots(tops[top])]
        self.lists = [required, possible, arrays, self.floats, in_order]  # what gradients in order may be of

    def name(self, gradients):
        """What backward returned -> {name: NumPy array or None}, with names that are no input where there are any."""
        found = {}
        if isinstance(gradients, (Iterator, ValuesView)):  # map(…), grads.values()
            gradients = list(gradients)
        if gradients is None:
            pass
        elif len(self.expected) == 1 and self.fits(self.tops[self.expected[0]], gradients):
            self.assign(self.expected[0], self.tops[self.expected[0]], gradients, found)
        elif is_keyed(gradients) and are_resolved(gradients, targets("", self.tops)):
            self.by_name("", self.tops, gradients, found)
        else:
            self.in_order(list(gradients) if isinstance(gradients, (list, tuple)) else [gradients], found)
        return found

    def in_order(self, entries, found):
        """Enter gradients that are in the order of the arguments; the last may be of all the rest, by name."""
        *first, last = entries or [None]
        chosen = self.arguments_of(entries)
        fewer = len(entries) - 1 + len(self.starred)
        if isinstance(last, (list, tuple)) and len(last) == len(self.starred) and fewer == len(self.expected):
            entries = [*first, *last]  # dx, [dw0, dw1] of f(x, *ws)
            chosen = self.arguments_of(entries)
        elif is_keyed(last) and not self.fit(chosen, entries):
            before = self.arguments_of(first)[: len(first)]
            if not self.fit(before, first):
                before = self.first_that_fit(self.floats, first)
            rest = {top: tree for top, tree in self.tops.items() if top not in before}
            if are_resolved(last, targets("", rest)):
                self.by_name("", rest, last, found)
                entries, chosen = first, before
        for name, gradient in zip(chosen, entries):
            self.assign(name, self.tree(name), gradient, found)
        for i, gradient in enumerate(entries[len(chosen) :], 1):
            found["one more" if i == 1 else f"one more ({i})"] = to_array(gradient)

    def arguments_of(self, entries):
        """The arguments, or single arrays, to which gradients in order belong."""
        exact = [names for names in self.lists if len(names) == len(entries)]
        fewer = [names for names in self.lists if len(names) > len(entries)]
        for names in exact:
            if self.fit(names, entries):
                return names
        for names in [names for names in self.lists[:2] if names in fewer]:
            learned = [name for name in names if LEARNED.fullmatch(name)]  # theta rather than x, of one shape
            for those in (learned, names) if self.is_loss and EXAMPLES.fullmatch(names[0]) else (names,):
                if fitting := self.first_that_fit(those, entries):
                    return fitting
        return exact[0] if exact else fewer[0][: len(entries)] if fewer else self.lists[1]

    def fit(self, names, entries):
        """Whether each gradient can be that of the argument in its place."""
        return len(names) == len(entries) and all(map(self.fits, map(self.tree, names), entries))

    def first_that_fit(self, names, entries):
        """For each gradient the first argument that is left and that it fits; [] where one fits none."""
        left, fitting = iter(names), []
        for gradient in entries:
            name = next((name for name in left if self.fits(self.tree(name), gradient)), None)
            if name is None:
                return []
            fitting.append(name)
        return fitting

    def tree(self, name):
        return self.tops.get(name, Slot(name))

    def fits(self, tree, gradient):
        """Whether a gradient can be that of an argument: by shape, or as a tree of the same structure."""
        parts, entries = children(tree), children(gradient)
        if gradient is None:
            return True
        if isinstance(tree, Slot):
            return self.has_shape(tree.name, gradient)
        if not parts:  # an integer or a setting: some give a gradient of it, or zeros
            alike = (is_array(tree) or is_number(tree)) and np.shape(tree) == np.shape(gradient)
            return is_array(gradient) and (alike or not np.any(to_numpy(gradient)))
        if is_keyed(gradient):
            return are_resolved(gradient, parts)
        return len(parts) == len(entries) and all(map(self.fits, parts.values(), entries.values()))

    def has_shape(self, name, gradient):
        array = to_array(gradient)
        return array is not None and array.shape == self.leaves[name].shape

    # -------------------------------------------------------------------------------------- into trees

    def assign(self, name, tree, gradient, found):
        """Enter the gradient of one argument, or of a part of it, by the names of its arrays."""
        parts, arrays = children(tree), slots(tree)
        if gradient is None:
            found.update(dict.fromkeys(arrays))
        elif isinstance(tree, Slot):
            self.assign_array(tree.name, gradient, found)
        elif not parts:  # zeros mean none
            if is_number(gradient) or is_array(gradient) and np.any(to_numpy(gradient)):
                self.notes.append(f"backward also gives a gradient of {name}, which was not handed over as floats.")
        elif is_keyed(gradient):
            self.by_name(name, tree, gradient, found)
        elif is_array(gradient) and np.shape(gradient)[:1] != (len(parts),):  # right where there is but one array
            if len(arrays) != 1 or not self.has_shape(arrays[0], gradient):
                raise CannotCheck(
                    f"backward gives {described(gradient)} for {name}, which is {described(parts)}: gradients of the "
                    "same structure are due, or a dict of them by name."
                )
            self.assign_array(arrays[0], gradient, found)
        else:
            entries = list(gradient)
            if len(entries) == len(arrays) != len(parts):
                parts = {slot.removeprefix(f"{name}."): Slot(slot) for slot in arrays}
            for (key, part), entry in zip(parts.items(), entries):
                self.assign(f"{name}.{key}", part, entry, found)
            for i, entry in enumerate(entries[len(parts) :], len(parts)):
                found[f"{name}.{i}"] = to_array(entry)

    def by_name(self, name, tree, gradients, found):
        """Enter gradients that come by name. One of nothing there is kept, but for "dZ1" and the like, which is of
        something between."""
        meant = targets(name, tree)
        for key, gradient in children(gradients).items():
            target, full = resolve(key, meant), f"{name}.{key}" if name else str(key)
            if target is not None:
                self.assign(*meant[target], gradient, found)
            elif len(plain_names(key)) > 1:
                self.notes.append(f"backward also gives {full}, which is the gradient of no argument.")
            elif gradient is not None:
                found[full] = to_array(gradient)

    def assign_array(self, name, gradient, found):
        """Enter the gradient of one array. Raises CannotCheck where it is no array of numbers."""
        if isinstance(gradient, (tuple, list)) and not gradient:
            return
        found[name] = to_array(gradient, self.leaves[name].dtype)
        if found[name] is None:
            shape = self.leaves[name].shape
            raise CannotCheck(
                f"backward gives {described(gradient)} for {name}, where an array of shape {shape} is due."
            )
