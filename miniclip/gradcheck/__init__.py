"""Is a backward pass right? The checker, and every layer of this library as a case for it."""

from .cases import CASES, check_layer, draw_case, find_cases
from .check import assert_gradients, check
from .command import run_command
from .curve import v_curve
from .jacobian_view import Jacobian, jacobians
from .numeric import central, complex_step, richardson
from .random_inputs import RandomInputs
from .refusals import CannotCheck
from .report import Report
