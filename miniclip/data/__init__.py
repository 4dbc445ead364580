"""Where pictures and captions come from: emoji, shapes drawn by the program, or a folder of one's own."""

from .augment import Augmentation, augment, mix, plain, resize_all
from .dataset import Evaluation, PictureSet
from .emoji import emoji_data, emoji_names, emoji_pictures
from .folder import folder_data
from .load import load_data
from .shapes import shapes_data
