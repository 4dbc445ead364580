"""Is a backward pass right? The checker, and every layer of this library as a case for it."""

from .cases import CASES, check_layer, draw_case, find_cases
from .check import check, v_curve
from .command import run_command
from .report import Report
