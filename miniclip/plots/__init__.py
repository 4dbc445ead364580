"""The figures of the notebooks."""

from .curves import accuracy_curve, gradient_matrices, loss_curve, similarity_matrices, temperature_curve, v_curve
from .pictures import mistakes_grid, prediction_grid, retrieval_grid
