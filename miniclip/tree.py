"""Trees of parameters: nested dicts and lists whose leaves are arrays.

A tree mirrors a PyTorch state dict with its dots taken apart: `tree["attn"]["in_proj_weight"]` is
`attn.in_proj_weight`, and `tree["resblocks"][0]` is `resblocks.0`. A gradient is a tree of the same shape. `Flat`
lays all leaves in one vector, so that the optimiser, the gradient norm and a checkpoint each touch one long array.
"""

from .backend import array_module, to_array_on


def to_device(tree, device):
    """The tree with its arrays on `device`, "cpu" or "gpu"; those already there are not copied.

    Raises ValueError when there is no such device, no CuPy, or no graphics card.
    """
    return tree_map(to_array_on(device), tree)


def tree_map(f, tree, *others):
    """The tree of `f(leaf, *leaves at the same place in the others)`.

    Raises ValueError when the trees are not of the same shape, naming the keys that differ.
    """
    if isinstance(tree, dict):
        for other in others:
            if not isinstance(other, dict) or tree.keys() != other.keys():
                keys = sorted(map(str, other)) if isinstance(other, dict) else type(other).__name__
                raise ValueError(f"trees differ: {sorted(map(str, tree))} against {keys}.")
        return {key: tree_map(f, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, (list, tuple)):
        for other in others:
            if not isinstance(other, (list, tuple)) or len(tree) != len(other):
                raise ValueError(f"trees differ: a list of {len(tree)} against {type(other).__name__}.")
        return [tree_map(f, *leaves) for leaves in zip(tree, *others)]
    return f(tree, *others)


def flatten(tree, prefix=""):
    """Tree -> {"dotted.name": leaf}, in the order of the tree."""
    if not isinstance(tree, (dict, list, tuple)):
        return {prefix[:-1]: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {name: leaf for key, child in items for name, leaf in flatten(child, f"{prefix}{key}.").items()}


def unflatten(leaves):
    """{"dotted.name": leaf} -> tree. Keys 0, 1, 2 … become a list.

    Raises ValueError when a name is both a leaf and a branch.
    """
    root = {}
    for name, leaf in leaves.items():
        *branches, last = name.split(".")
        node = root
        for branch in branches:
            node = node.setdefault(branch, {})
            if not isinstance(node, dict):
                raise ValueError(f"parameter {name!r} lies below another parameter.")
        if last in node:
            raise ValueError(f"parameter {name!r} lies above another parameter.")
        node[last] = leaf
    return _with_lists(root)


def _with_lists(node):
    if not isinstance(node, dict):
        return node
    children = {key: _with_lists(child) for key, child in node.items()}
    if children and all(str(i) in children for i in range(len(children))):
        return [children[str(i)] for i in range(len(children))]
    return children


class Flat:
    """One vector, and a tree whose leaves are views of it.

    Flat(tree) copies the leaves of `tree` (all of one dtype) into `.vector` (P,); writing to
    either `.vector` or a leaf of `.tree` changes both. `.slices` maps each dotted name to its place.
    """

    def __init__(self, tree, vector=None):
        leaves = flatten(tree)
        xp = array_module(next(iter(leaves.values())))
        sizes = [leaf.size for leaf in leaves.values()]
        self.vector = xp.empty(sum(sizes), next(iter(leaves.values())).dtype) if vector is None else vector
        self.slices, views, start = {}, {}, 0
        for (name, leaf), size in zip(leaves.items(), sizes):
            self.slices[name] = slice(start, start + size)
            views[name] = self.vector[self.slices[name]].reshape(leaf.shape)
            start += size
        self.tree = unflatten(views)
        if vector is None:
            self.write(tree)

    def write(self, tree):
        """Copy the leaves of a tree of this shape into the vector."""
        views, leaves = flatten(self.tree), flatten(tree)
        if views.keys() != leaves.keys():
            raise ValueError(f"trees differ in {sorted(views.keys() ^ leaves.keys())}.")
        for name, view in views.items():
            if view.shape != leaves[name].shape:
                raise ValueError(f"{name} has shape {leaves[name].shape}; it must be {view.shape}.")
        for name, view in views.items():
            view[...] = leaves[name]

    def like(self, vector):
        """A `Flat` of the same tree over another vector (P,), not copied."""
        return Flat(self.tree, vector)
