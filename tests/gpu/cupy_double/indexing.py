"""Indices: CuPy's wrap around, may be of the card or of the host, and where one stands twice nobody knows who wins."""

import numpy as np

from .boxes import SCALARS, Box, box, boxes_in, unbox, upload
from .card import Undefined, card, launch


class Indexed(Box):
    """A box that is read and written at places."""

    def take(self, indices, axis=None, out=None):
        if out is not None:
            raise NotImplementedError("this double has no take(out=).")
        flat = self.ravel() if axis is None else self
        indices = indices if isinstance(indices, Box) else upload(np.asarray(indices))
        return flat[(slice(None),) * (0 if axis is None else axis % self.ndim) + (indices,)]

    def scatter_add(self, slices, value):
        value = value if isinstance(value, (Box, *SCALARS)) else upload(np.asarray(value))
        key, given, advanced = self._key(slices)
        if advanced and self.dtype not in (np.int32, np.float16, np.float32, np.float64, np.uint32, np.uint64):
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64, as data type")
        launch({x._memory for x in boxes_in(given, value)}, [self._memory])
        with np.errstate(all="ignore"):
            np.add.at(self._array, key, np.asarray(unbox(value)).astype(self.dtype))

    def __getitem__(self, slices):
        key, given, advanced = self._key(slices)
        if advanced:
            launch({x._memory for x in (self, *given)})
        return box(self._array[key], self)

    def __setitem__(self, slices, value):
        key, given, advanced = self._key(slices)
        if not advanced and isinstance(value, np.ndarray):
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if advanced and not isinstance(value, (Box, *SCALARS)):
            value = upload(np.asarray(value))  # CuPy sends it: no error, but a copy
        number = unbox(value)
        if advanced and np.size(number) > 1:
            places = np.arange(self.size).reshape(self.shape)[key]
            if len(np.unique(places)) < places.size:
                raise Undefined("an index stands twice in what is assigned to: which value stays is not defined.")
        launch({x._memory for x in boxes_in(given, value)}, [self._memory])
        with np.errstate(all="ignore"):
            self._array[key] = number

    def _key(self, slices):
        """An index as NumPy takes it, with integers wrapped round as CuPy does; its boxes; whether it copies."""
        given, key, axis, advanced = [], [], 0, False
        slices = slices if isinstance(slices, tuple) else (slices,)
        parts = []
        for part in slices:
            if isinstance(part, (bool, np.bool_)):
                raise NotImplementedError("this double has no index that is a bool.")
            if isinstance(part, (list, tuple, np.ndarray)):
                part = upload(np.asarray(part if len(part) else np.zeros(0, np.int32)))
            parts.append(part)
        taken = sum(
            0 if p is None or p is ... else p.ndim if isinstance(p, Box) and p.dtype == bool else 1 for p in parts
        )
        if sum(p is ... for p in parts) > 1 or taken > self.ndim:
            raise IndexError(f"too many indices for array: array is {self.ndim}-dimensional, but {taken} were indexed")
        for part in parts:
            if isinstance(part, Box):
                advanced = True
                given.append(part)
                if part.dtype == bool:
                    card().note("syncs", "a boolean mask")
                    axis += part.ndim
                    part = part._array
                elif part.dtype.kind not in "iu":
                    raise IndexError(
                        f"arrays used as indices must be of integer or boolean type. (actual: {part.dtype})"
                    )
                else:
                    size, axis = self.shape[axis], axis + 1
                    if not size and part.size:
                        raise IndexError("cannot do a non-empty take from an empty axes.")
                    part = part._array.astype(np.int64) % max(1, size)
            elif part is ...:
                axis += self.ndim - taken
            elif part is not None:
                axis += 1
            key.append(part)
        if not any(part is ... for part in parts):
            key.append(...)
        return tuple(key), given, advanced
