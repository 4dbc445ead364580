"""Models on disk: saved so that they open here and elsewhere, and loaded from all that holds a CLIP.

    miniclip       one file: parameters, configuration, tokenizer and `about` (safetensors_file.py)
    open_clip      a folder: open_clip_config.json, open_clip_model.safetensors, and the vocabulary
    huggingface    a folder: config.json, model.safetensors, preprocessor_config.json, and the vocabulary
    OpenAI's own   a file of PyTorch's, traced or plain (torch_file.py); read, not written

Weights that have nothing beside them are described by their shapes, and by what is known or said (describe.py).

What is written here has a checksum in every layout, over the files beside the weights too. No file is trusted:
a configuration must make sense, and must fit the arrays, before anything is made from it.
"""

from .find import find_weights
from .huggingface import arrays_from_huggingface
from .load import load
from .openai import arrays_from_openai
from .safetensors_file import read_arrays, write_arrays
from .save import amend, save
from .vocabulary import read_tokenizer
