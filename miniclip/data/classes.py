"""One folder of pictures for each class; what else lies there is counted, and told from what was meant."""

import os
from collections import Counter
from pathlib import Path

from .captions import find_table, not_read
from .grouping import keys_of
from .pictures import endings

PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}


def class_files(folder):
    """Files (M), the name of the class of each, and remarks about what was passed over.

    Raises ValueError as `folder_data` does.
    """
    folders = _folders(folder)
    if hint := _looks_like(folder, folders):
        raise ValueError(f"{folder} looks like {hint}")
    if not folders:
        raise ValueError(f"{folder} holds neither captions.csv nor one folder of pictures for each class")
    names = [" ".join(f.name.replace("_", " ").replace("-", " ").split()) for f in folders]
    files, classes, folder_of, key_of = [], [], {}, keys_of({name for name in names if name})
    remarks, passed_over = [], Counter()
    for class_folder, name in zip(folders, names):
        if not name:
            raise ValueError(f"{class_folder} names no class; give it a name with letters")
        if (other := folder_of.setdefault(key_of[name], class_folder)) != class_folder:
            raise ValueError(f"{other} and {class_folder} would both be the class {name!r}; rename one")
        found, below = _pictures(class_folder), _pictures_below(class_folder)
        others = [f.suffix.lower() or "without an ending" for f in _files(class_folder) if f not in found]
        passed_over.update(others)
        if not found:
            there = ", ".join(sorted(set(others)))
            why = f", but {below} in folders below it" if below else f" that can be read ({there})" if there else ""
            raise ValueError(f"{class_folder} holds no pictures{why}; add some, or remove the folder")
        if below:
            remarks.append(f"pictures in folders below {class_folder.name}, which were passed over: {below}")
        files += found
        classes += [name] * len(found)
    if len(folders) < 2:
        raise ValueError(f"{folder} holds one class only, {names[0]!r}; training compares at least two")
    if beside := len(_pictures(folder)):
        remarks.append(f"pictures beside the folders of the classes, which were passed over: {beside}")
    if passed_over:
        remarks.append(not_read(passed_over))
    return files, classes, remarks


def _looks_like(folder, folders):
    """What a folder is, where it is none with classes, and what to give instead; or None."""
    if folders and {f.name.lower() for f in folders} <= PARTS:
        first = min(folders, key=lambda f: not f.name.lower().startswith("train"))
        return f"a data set in parts, {', '.join(f.name for f in folders)}; give {first}"
    if len(folders) == 1 and not _pictures(folders[0]) and (_folders(folders[0]) or find_table(folders[0])):
        return f"a folder around the pictures; give {folders[0]}"
    above = folder.resolve().parent
    if folders or not _pictures(folder):
        return None
    if table := find_table(above):
        return f"the pictures of {table.name}; give {above}, where it lies"
    if sum(bool(_pictures(f)) for f in _folders(above)) > 1:
        return f"the pictures of one class, without captions.csv; give {above}, which holds several"
    return None


def _visible(folder):
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.name != "__MACOSX")


def _folders(folder):
    return [f for f in _visible(folder) if f.is_dir()]


def _files(folder):
    return [f for f in _visible(folder) if f.is_file()]


def _pictures(folder):
    return {f: None for f in _files(folder) if f.suffix.lower() in endings()}


def _pictures_below(folder):
    return sum(len(_pictures(Path(place))) for place, _, _ in os.walk(folder) if Path(place) != folder)
