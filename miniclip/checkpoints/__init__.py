"""Models on disk: this library's own files, OpenAI's, open_clip's and Hugging Face's."""

from .checkpoint import load, save
from .find import find_weights
from .safetensors_file import read_arrays, write_arrays
