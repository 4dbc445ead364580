"""Where pictures and captions come from: emoji, shapes that the program draws, a folder, or tars."""

from .augment import Augmentation, augment, mix, plain
from .dataset import Evaluation, PictureSet, resize_all
from .emoji import emoji_data, emoji_names, emoji_pictures
from .folder import folder_data
from .load import load_data
from .pictures import endings, open_picture
from .shapes import shapes_data
from .tar_index import index_tar
from .tars import TarSet, names_tars, read_pair, tar_data, tar_paths
