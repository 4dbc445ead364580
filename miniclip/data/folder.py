"""A user's own pictures: a folder with a table of captions, or one folder for each class.

    flickr/captions.csv          image,caption                pets/tabby_cat/1.jpg
    flickr/Images/dog.jpg        dog.jpg,"A dog, running"     pets/tabby_cat/2.png
                                 dog.jpg,A brown dog          pets/house-sparrow/a.webp

With captions, each picture is a thing of its own and any of its captions may name it (the layout of Flickr8k, whose
table is called captions.txt). With classes, the name of a folder names all the pictures in it. Either way a part of
the pictures is kept from training, always the same for the same seed, and asked about in the evaluation.
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..backend import cpu_count
from ..preprocess import as_pil, resize_and_crop
from .dataset import Evaluation, PictureSet

TABLES = ["captions.csv", "captions.txt"]
PROMPTS = ["{}", "a photo of a {}", "a picture of the {}", "a close-up photo of the {}", "one of many {}"]


def folder_data(path, size=64, seed=0, validation=0.1):
    """Read a folder of pictures: (PictureSet, [Evaluation]), every picture uint8 RGBA (size, size, 4).

    Pictures in any format that Pillow reads are turned upright as their EXIF data say, resized until the shorter
    side is `size`, and cropped to the middle. The part `validation` (0 to less than 1) is kept from training:
    of the captioned pictures, or of each class. The list of evaluations is empty where nothing could be spared.

    Raises FileNotFoundError for a folder or a captioned picture that is not there, and ValueError for a picture
    that cannot be read, a table without the columns image and caption, an empty caption, a folder without pictures,
    and less than two classes or captioned pictures: each names the culprit.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder that holds the pictures")
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; it must be 0 or more, and less than 1")
    rng = np.random.default_rng(seed)
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    files, concept, captions, asked = _captioned(table, rng, validation) if table else _classes(folder, rng, validation)
    with ThreadPoolExecutor(cpu_count()) as pool:  # Pillow decodes without Python's lock
        pictures = np.stack(list(pool.map(lambda file: read_picture(file, size), files)))

    kept, known = np.unique(concept[~asked], return_inverse=True)
    training = PictureSet(folder.resolve().name, pictures[~asked], known, [captions[k] for k in kept])
    if not asked.any():
        return training, []
    if table:
        choices, answer = np.unique(concept[asked], return_inverse=True)
        names = [captions[k][0] for k in choices]
        return training, [Evaluation("validation captions", pictures[asked], answer, names)]
    names = [texts[0] for texts in captions]
    return training, [Evaluation("validation classes", pictures[asked], concept[asked], names, None, PROMPTS)]


def _captioned(table, rng, validation):
    """Files (M), concept int64 (M,), captions (K lists), and which files to keep from training, bool (M,)."""
    captions_of = read_captions(table)
    concept, captions = group_by_caption(captions_of.values())
    if len(captions) < 2:
        raise ValueError(f"{table} describes only one thing, {captions[0][0]!r}; training compares at least two")
    order = rng.permutation(len(captions))
    asked = order[: min(round(validation * len(order)), len(order) - 2)]
    return list(captions_of), concept, captions, np.isin(concept, asked)


def _classes(folder, rng, validation):
    """The same of a folder with one folder of pictures for each class."""
    endings = Image.registered_extensions()
    folders = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise ValueError(f"{folder} holds neither captions.csv nor one folder of pictures for each class")
    files, label, asked, folder_of = [], [], [], {}
    for k, class_folder in enumerate(folders):
        name = " ".join(class_folder.name.replace("_", " ").replace("-", " ").split())
        if folder_of.setdefault(name, class_folder) != class_folder:
            raise ValueError(f"{folder_of[name]} and {class_folder} would both be the class {name!r}; rename one")
        found = sorted(f for f in class_folder.iterdir() if f.suffix.lower() in endings and not f.name.startswith("."))
        if not found:
            raise ValueError(f"{class_folder} holds no pictures; add some, or remove the folder")
        files += found
        label += [k] * len(found)
        count = min(round(validation * len(found)), len(found) - 1)
        asked.append(np.isin(np.arange(len(found)), rng.permutation(len(found))[:count]))
    if len(folder_of) < 2:
        raise ValueError(f"{folder} holds one class only, {name!r}; training compares at least two")
    captions = [[prompt.format(name) for prompt in PROMPTS] for name in folder_of]
    return files, np.array(label, np.int64), captions, np.concatenate(asked)


def read_captions(table):
    """A CSV table with the columns image and caption -> {path of the picture: [captions]}, in the table's order.

    A picture lies beside the table or in the folder Images next to it. Raises as `folder_data` does.
    """
    captions_of = {}
    try:
        with open(table, encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, restkey="", skipinitialspace=True)
            rows.fieldnames = [(column or "").strip().lower() for column in rows.fieldnames or []]
            header = ",".join(rows.fieldnames) or "empty"
            for column in ("image", "caption"):
                if column not in rows.fieldnames:
                    raise ValueError(f"{table} has no column {column!r}: its first line is {header}, not image,caption")
            for row in rows:
                where = f"{table}, line {rows.line_num}"
                if "" in row:
                    raise ValueError(f"{where} has too many fields; put a caption with commas into double quotes")
                name, caption = (row["image"] or "").strip(), " ".join((row["caption"] or "").split())
                if not name:
                    raise ValueError(f"{where} names no picture")
                if not caption:
                    raise ValueError(f"{where}: the caption of {name!r} is empty")
                file = next((f for f in (table.parent / name, table.parent / "Images" / name) if f.is_file()), None)
                if file is None:
                    raise FileNotFoundError(f"{where}: the picture {name!r} is neither beside the table nor in Images")
                captions_of.setdefault(file, []).append(caption)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{table} cannot be read as a table: {error}") from error
    if not captions_of:
        raise ValueError(f"{table} holds no captions below its first line")
    return captions_of


def group_by_caption(captions_of):
    """Things and their captions, no caption shared: n lists of captions -> concept int64 (n,) and K lists.

    A caption belongs to the first picture that has it. A picture whose captions all belong to others shows the
    same thing as the owner of its first one, so that a batch never holds both.
    """
    owner, concept, captions = {}, [], []
    for texts in captions_of:
        own = [text for text in dict.fromkeys(texts) if text not in owner]
        if own:
            owner.update((text, len(captions)) for text in own)
            captions.append(own)
        concept.append(owner[own[0] if own else texts[0]])
    return np.array(concept, np.int64), captions


def read_picture(file, size):
    """One upright picture, resized and cropped: uint8 RGBA (size, size, 4). ValueError names a file that is none."""
    try:
        with Image.open(file) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} × {image.height} pixels")
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no finer than needed
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits; Pillow would cut them off at 255
                image = as_pil(image)
            return np.asarray(resize_and_crop(image.convert("RGBA"), size))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{file} is too large a picture to open safely ({error}); make it smaller") from error
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{file} is not a picture that can be read ({error}); mend it or take it out") from error
