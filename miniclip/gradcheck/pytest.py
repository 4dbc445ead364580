"""A plugin of pytest: the fixture `gradients`, for tests of backward passes, of graders and in continuous integration.

pytest_plugins = ["miniclip.gradcheck.pytest"]      # in conftest.py, or say pytest -p miniclip.gradcheck.pytest

def test_batchnorm(gradients):
    gradients(batchnorm, x, gamma, beta, backward=batchnorm_backward)
"""

import pytest

from .check import check
from .refusals import CannotCheck
from .tracebacks import own_part


@pytest.fixture
def gradients():
    """gradients(f, *args, **options): `check`, which fails the test with its table where a gradient is not right."""
    return assert_right


def assert_right(f, *args, **options):
    """`check` -> the `Report`. Raises AssertionError with its table; the traceback ends in the test that called this.

    CannotCheck is raised as by `check`; where the user's code raised, its own traceback stands above.
    """
    __tracebackhide__ = True
    try:
        report = check(f, *args, **options)
    except CannotCheck as error:
        cause = error.__cause__
        raise CannotCheck(str(error)) from (cause and cause.with_traceback(own_part(cause)))
    if not report.ok:
        raise AssertionError(str(report))
    return report
