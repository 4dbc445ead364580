"""Anybody's function, object or module as one kind of layer, however it is written."""

from .arguments import signature_of
from .layer import Layer, as_layer
from .run import Run
from .subjects import find_functions
