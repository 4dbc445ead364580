"""The figures that the notebooks and the command line draw."""

from .curves import (
    accuracy_curve,
    gradient_matrices,
    jacobian,
    loss_curve,
    similarity_matrices,
    temperature_curve,
    v_curve,
)
from .pictures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, mistakes_grid, prediction_grid, retrieval_grid
