"""What is probably wrong with a gradient that is wrong."""

from .diagnose import diagnose, summarise
from .evidence import SMALL, Evidence
from .nonlinear import name_nonlinear
