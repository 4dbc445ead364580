"""Which gradient belongs to which argument: whatever a backward pass returns, by the names of the arguments.

A gradient may be an array, a tuple or list in the order of the arguments, a dict by name ("W", "dW", "grad_W"), or a
tree that mirrors its argument. With fewer entries than arguments, each goes to the first that is left and whose shape
it has.
"""

from collections.abc import Iterator, ValuesView

import numpy as np

from ..refusals import CannotCheck
from .arguments import Slot, children
from .arrays import described, is_array, to_numpy
from .naming import Named, is_keyed, plain_names, resolve, slots, to_array

ITERATORS = (Iterator, ValuesView)  # map(…), grads.values()


class GradientNames:
    """Names what a backward pass returned.

    tops: {argument: its tree, `Slot` where an array of floats stands}; leaves: {name: array}; names: those to
    differentiate; optional: those that may have a gradient; by_name_only: arguments whose gradients are in no order.
    `.notes` are sentences for the report.
    """

    def __init__(self, tops, leaves, names, optional, by_name_only=()):
        self.all_tops, self.leaves, self.notes = tops, leaves, []
        self.tops = tops = {top: tree for top, tree in tops.items() if top not in by_name_only}
        trees = {top: set(slots(tree)) for top, tree in tops.items()}
        self.required = [top for top in tops if trees[top] & set(names)]
        self.possible = [top for top in tops if trees[top] & (set(names) | set(optional))]
        self.floats = [top for top in tops if trees[top]]

    def name(self, gradients):
        """What backward returned -> {name: NumPy array or None}, with names that are no input where there are any."""
        found = {}
        expected = self.required or self.possible
        if gradients is None:
            return found
        if isinstance(gradients, ITERATORS):
            gradients = list(gradients)
        if isinstance(gradients, Named):
            return {name: to_array(gradient) for name, gradient in gradients.items()}
        if len(expected) == 1 and self.fits(expected[0], self.tops[expected[0]], gradients):
            self.assign(expected[0], self.tops[expected[0]], gradients, found)
        elif is_keyed(gradients) and self.resolved(gradients, self.targets(self.all_tops)):
            self.by_name(children(gradients), self.all_tops, found)
        else:
            is_sequence = isinstance(gradients, (list, tuple)) and not self.is_one_array(gradients, expected)
            self.in_order(list(gradients) if is_sequence else [gradients], expected, found)
        return found

    # -------------------------------------------------------------------------------------- by name

    def targets(self, tops):
        """{what a key may say: name}: arguments, arrays by their full name, and by its last part where that is one."""
        full = [name for top in tops for name in slots(self.all_tops[top])]
        last = [name.split(".")[-1] for name in full]
        unique = {part: name for part, name in zip(last, full) if last.count(part) == 1}
        return unique | {name: name for name in full} | {top: top for top in tops}

    def resolved(self, gradients, targets):
        return any(resolve(key, targets) is not None for key in children(gradients))

    def by_name(self, entries, tops, found):
        targets = self.targets(tops)
        for key, gradient in entries.items():
            target = resolve(key, targets)
            if target is None:
                self.unknown(key, "", gradient, found)
            else:
                name = targets[target]
                self.assign(name, self.all_tops.get(name, Slot(name)), gradient, found)

    def unknown(self, key, prefix, gradient, found):
        """A gradient by a name that is no input: kept, but for "dZ1" and the like, which is of something between."""
        if len(plain_names(key)) > 1:
            self.notes.append(f"backward also gives {prefix}{key}, which is the gradient of no argument.")
        elif gradient is not None:
            found[f"{prefix}{key}"] = to_array(gradient)

    # -------------------------------------------------------------------------------------- in order

    def in_order(self, entries, expected, found):
        *first, last = entries or [None]
        if is_keyed(last) and len(first) <= len(self.floats):
            rest = [top for top in self.all_tops if top not in self.chosen(first)[: len(first)]]
            if self.resolved(last, self.targets(rest)) and not (
                len(entries) == len(expected) and self.fits(expected[-1], self.tops[expected[-1]], last)
            ):
                for top, gradient in zip(self.chosen(first), first):
                    self.assign(top, self.tops[top], gradient, found)
                return self.by_name(children(last), rest, found)
        names = [name for top in expected for name in slots(self.tops[top])]
        if len(entries) == len(names) > len(expected) and self.all_fit(names, entries):
            return [self.assign(name, Slot(name), gradient, found) for name, gradient in zip(names, entries)]
        chosen = self.chosen(entries)
        for top, gradient in zip(chosen, entries):
            self.assign(top, self.tops[top], gradient, found)
        for i, gradient in enumerate(entries[len(chosen) :], 1):
            found["one more" if i == 1 else f"one more ({i})"] = to_array(gradient)

    def chosen(self, entries):
        """The arguments to which these gradients belong, in order."""
        lists = [self.required, self.possible, self.floats, list(self.tops)]
        exact = [tops for tops in lists if len(tops) == len(entries)]
        for tops in exact:
            if self.all_fit(tops, entries):
                return tops
        for tops in lists[:2]:
            if len(entries) < len(tops) and (fitting := self.first_that_fit(tops, entries)):
                return fitting
        if exact:
            return exact[0]
        return next((tops[: len(entries)] for tops in lists[:3] if len(entries) < len(tops)), self.possible)

    def first_that_fit(self, tops, entries):
        """For each gradient the first argument that is left and that it fits; [] where one fits none."""
        left, fitting = list(tops), []
        for gradient in entries:
            top = next((top for top in left if self.fits(top, self.tops[top], gradient)), None)
            if top is None:
                return []
            fitting.append(top)
            left = left[left.index(top) + 1 :]
        return fitting

    def all_fit(self, names, entries):
        return all(self.fits(name, self.tops.get(name, Slot(name)), g) for name, g in zip(names, entries))

    def is_one_array(self, gradients, expected):
        """Whether a tuple or list of numbers is the gradient of one argument."""
        return (
            len(expected) == 1 and isinstance(self.tops[expected[0]], Slot) and self.has_shape(expected[0], gradients)
        )

    def has_shape(self, name, gradient):
        try:
            return np.shape(to_array(gradient)) == self.leaves[name].shape
        except (TypeError, ValueError):
            return False

    def fits(self, name, tree, gradient):
        """Whether a gradient can be that of an argument: by shape, or as a tree of the same structure."""
        if gradient is None:
            return True
        if isinstance(tree, Slot):
            return self.has_shape(tree.name, gradient)
        parts, entries = children(tree), children(gradient)
        if not parts:  # an integer or a setting: some give zeros for it
            return is_array(gradient) and not np.any(to_numpy(gradient))
        if is_keyed(gradient):
            return self.resolved(gradient, parts)
        return len(parts) == len(entries) and all(
            self.fits(f"{name}.{key}", part, entry) for (key, part), entry in zip(parts.items(), entries.values())
        )

    # -------------------------------------------------------------------------------------- into trees

    def assign(self, name, tree, gradient, found):
        """Enter the gradient of one argument, or of a part of it, by the names of its arrays."""
        parts, entries = children(tree), children(gradient)
        if gradient is None:
            found.update((slot, None) for slot in slots(tree))
        elif is_keyed(gradient):
            for key, entry in entries.items():
                target = resolve(key, parts)
                if target is None:
                    self.unknown(key, f"{name}.", entry, found)
                else:
                    self.assign(f"{name}.{target}", parts[target], entry, found)
        elif isinstance(tree, Slot):
            self.assign_array(name, gradient, found)
        elif not parts:  # an argument without a gradient, to which one was given; zeros mean none
            if is_array(gradient) and np.any(to_numpy(gradient)):
                found[name] = to_array(gradient)
        elif is_array(gradient) and np.shape(gradient)[:1] != (len(parts),):
            self.assign_whole(name, tree, gradient, found)
        elif len(entries) == len(slots(tree)) != len(parts):
            for slot, entry in zip(slots(tree), entries.values()):
                self.assign(slot, Slot(slot), entry, found)
        else:
            entries = list(gradient)
            for (key, part), entry in zip(parts.items(), entries):
                self.assign(f"{name}.{key}", part, entry, found)
            for i, entry in enumerate(entries[len(parts) :], len(parts)):
                found[f"{name}.{i}"] = to_array(entry)

    def assign_array(self, name, gradient, found):
        """Enter the gradient of one array."""
        if isinstance(gradient, (tuple, list)) and not gradient:
            return
        found[name] = to_array(gradient, self.leaves[name].dtype)
        if found[name] is None:
            shape = self.leaves[name].shape
            raise CannotCheck(
                f"backward gives {described(gradient)} for {name}, where an array of shape {shape} is due."
            )

    def assign_whole(self, name, tree, gradient, found):
        """One array for a whole tree: right where the tree holds one array. Raises CannotCheck elsewhere."""
        names = slots(tree)
        if len(names) != 1 or not self.has_shape(names[0], gradient):
            raise CannotCheck(
                f"backward gives {described(gradient)} for {name}, which is {described(children(tree))}: gradients of "
                "the same structure are due, or a dict of them by name."
            )
        found[names[0]] = to_array(gradient, self.leaves[names[0]].dtype)
