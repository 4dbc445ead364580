"""A user's own pictures: a folder with a table of captions, or one folder for each class.

    flickr/captions.csv          image,caption                pets/tabby_cat/1.jpg
    flickr/Images/dog.jpg        dog.jpg,"A dog, running"     pets/tabby_cat/2.png
                                 dog.jpg,A brown dog          pets/house-sparrow/a.webp

With captions, each picture is a thing of its own and any of its captions may name it (the layout of Flickr8k, whose
table is called captions.txt; others: see captions.py). With classes, the name of a folder names all the pictures in
it. Either way a part of the pictures is kept from training and asked about in the evaluation. Which, follows from the
pixels of each and the seed: pictures may come, go and be renamed, and none changes sides; copies stand on one side.
"""

import warnings
from pathlib import Path

import numpy as np

from .captions import album_and_captions, find_table
from .classes import class_files
from .dataset import Evaluation, PictureSet
from .grouping import group_by_caption
from .pictures import is_held_out, read_pictures

PROMPTS = ["{}", "a photo of a {}", "a picture of the {}", "a close-up photo of the {}", "one of many {}"]


def folder_data(path, size=64, seed=0, validation=0.1):
    """Read a folder of pictures: (PictureSet, [Evaluation]), every picture uint8 RGBA (size, size, 4).

    Pictures in any format and mode that Pillow reads become RGB by the rules of `preprocess.upright`, are resized
    until the shorter side is `size`, and cropped to the middle. Of all pictures the part `validation` (0 to less
    than 1) is kept from training. The list of evaluations is empty where too few were kept to choose between.
    Warns, with their number, of files that were passed over.

    Raises FileNotFoundError for a folder or a captioned picture that is not there, and ValueError for a picture
    that cannot be read, a table that does not fit (see `read_captions`), a folder without pictures, classes of one
    name, and less than two classes or captioned pictures: each names the culprit.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder that holds the pictures")
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; it must be 0 or more, and less than 1")
    table = find_table(folder)
    files, texts, remarks = _captioned(table) if table else class_files(folder)
    pictures, contents = read_pictures(files, size)
    asked = np.array([is_held_out(content, seed, validation) for content in contents])
    parts = _split_captions(texts, contents, asked) if table else _split_classes(texts, contents, asked, remarks)
    (concept, captions), (answer, names) = parts
    if len(captions) < 2:
        kept = f"{asked.sum()} of the {len(files)} pictures are kept from training"
        raise ValueError(f"{folder} leaves less than two things to compare, as {kept}; add pictures")
    known = answer >= 0
    if known.any() and len(names) < 2:
        remarks.append("one thing is kept from training, and cannot be asked about: that would be a choice of one")
    for remark in remarks:
        warnings.warn(f"{folder}: {remark}", stacklevel=3)
    learned, left = _training_first(pictures, asked)
    kind, prompts = ("captions", ["{}"]) if table else ("classes", PROMPTS)
    training = PictureSet(folder.resolve().name, learned, concept, captions, named=not table, templates=prompts)
    if not known.any() or len(names) < 2:
        return training, []
    return training, [Evaluation(f"validation {kind}", left[known], answer[known], names, None, prompts)]


def _captioned(table):
    """Files (M), the captions of each, and remarks."""
    album, captions_of = album_and_captions(table)
    different = {text for texts in captions_of.values() for text in texts}
    if len(captions_of) < 2 or len(different) < 2:
        raise ValueError(f"{table} describes only one thing, {min(different)!r}; training compares at least two")
    return list(captions_of), list(captions_of.values()), album.passed_over()


def _split_captions(texts, contents, asked):
    """(concept of each picture to train on, captions) and (answer of each kept from training, names)."""
    captions_of = {}
    for content, own in zip(contents, texts):  # copies of a picture are one thing
        captions_of.setdefault(content, []).extend(own)
    parts = []
    for side in (False, True):
        rows = np.flatnonzero(asked == side)
        there = list(dict.fromkeys(contents[row] for row in rows))
        concept, captions = group_by_caption([captions_of[content] for content in there])
        concept_of = dict(zip(there, concept.tolist()))
        parts.append((np.array([concept_of[contents[row]] for row in rows], np.int64), captions))
    return parts[0], (parts[1][0], [captions[0] for captions in parts[1][1]])


def _split_classes(classes, contents, asked, remarks):
    """The same of classes; the answer is -1 where a class was not learned."""
    learned = {}
    for name, kept in zip(classes, asked):
        if not kept:
            learned.setdefault(name, len(learned))
    for name in dict.fromkeys(classes):
        if name not in learned:
            remarks.append(f"all pictures of {name!r} are kept from training, so it is not learned; add pictures of it")
    if twice := len({*zip(contents, classes)}) - len(set(contents)):
        remarks.append(f"pictures that stand in more than one class: {twice}")
    number = np.array([learned.get(name, -1) for name in classes], np.int64)
    return (number[~asked], [[name] for name in learned]), (number[asked], list(learned))


def _training_first(pictures, asked):
    """The pictures to train on and those that are kept, without a second copy of them all in memory."""
    kept, count = pictures[asked], len(asked) - int(asked.sum())
    for to, row in enumerate(np.flatnonzero(~asked)):
        pictures[to] = pictures[row]
    pictures[count:] = kept
    return pictures[:count], pictures[count:]
