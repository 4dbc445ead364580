"""A card for the tests of this folder: a double of CuPy, and CuPy itself where there is a graphics card."""

import pytest

from miniclip.gpu import usable_cupy

DOUBLE, GPU = "double, not a GPU", "CuPy on a GPU"


def is_there():
    try:
        return bool(usable_cupy())
    except ValueError:
        return False


@pytest.fixture(params=[DOUBLE, GPU] if is_there() else [DOUBLE])
def xp(request):
    """`cupy`, with kernels for its arrays: of the double, and of CuPy itself on a machine with a card."""
    return request.getfixturevalue("cupy") if request.param == DOUBLE else usable_cupy()
