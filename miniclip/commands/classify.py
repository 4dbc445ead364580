"""The command `python -m miniclip classify`: which of these names is it?"""

import csv
import io
import json
import sys
from glob import glob
from pathlib import Path

from ..checkpoints import load
from ..data import open_picture

CLASSIFY = (
    (
        "pictures",
        {"nargs": "+"},
        "image files, folders of them, patterns such as 'photos/*.png', or - for standard input",
    ),
    ("--labels", {"required": True}, """names separated by commas, with quotes as in a CSV: 'a,"salt, pepper"'"""),
    ("--template", {"action": "append"}, 'a prompt such as "a drawing of {}"; may be repeated'),
    ("--count", {"type": int, "default": 5}, "how many to print (default: 5)"),
    ("--checkpoint", {"default": "emoji"}, "as for evaluate (default: emoji)"),
    ("--json", {"action": "store_true"}, "print JSON"),
    ("--csv", {"action": "store_true"}, "print a table: picture,label,probability"),
)


def run_classify(options):
    """classify: how likely each label is for each picture. Status 2 where one picture cannot be read."""
    if options.count < 1:
        raise ValueError(f"--count is {options.count}; it must be at least 1.")
    labels = read_labels(options.labels)
    clip = load(options.checkpoint, device=options.device)
    answers, broken = [], []
    for name in find_pictures(options.pictures):
        try:
            picture = read(name)
        except ValueError as error:
            broken.append(error)
            continue
        chances = clip.classify([picture], labels, options.template)[0].tolist()
        best = sorted(zip(labels, chances), key=lambda pair: -pair[1])[: options.count]
        answers.append((name, best))
        if not options.json and not options.csv:
            print("\n".join([name, *(f"  {chance:7.2%}  {label}" for label, chance in best)]))
    if options.json:
        print(json.dumps([{"picture": name, "labels": dict(best)} for name, best in answers], indent=2))
    if options.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["picture", "label", "probability"])
        table.writerows([name, label, f"{chance:.6g}"] for name, best in answers for label, chance in best)
    for error in broken:
        print(f"miniclip: {error}", file=sys.stderr)
    return 2 if broken else 0


def read_labels(text):
    """The names in one line of a CSV. Raises ValueError for a quote left open and for less than two."""
    try:
        rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"--labels is no line of a CSV ({error}): a name with a comma stands in quotes.") from None
    labels = [label.strip() for row in rows for label in row if label.strip()]
    different = list(dict.fromkeys(labels))
    if len(different) < 2:
        raise ValueError(f"--labels names {len(different)} label; give at least two, separated by commas.")
    if len(different) < len(labels):
        print("miniclip: of labels that are the same, one is asked about.", file=sys.stderr)
    return different


def find_pictures(names):
    """The files that are meant: of a folder all that look like pictures, of a pattern what fits, ~ for one's home.

    Raises ValueError for a folder or a pattern without pictures.
    """
    from PIL import Image

    found = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            Image.init()
            inside = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in Image.EXTENSION)
        else:
            inside = (
                [str(path)] if name == "-" or path.exists() or not set("*?[") & set(name) else sorted(glob(str(path)))
            )
        if not inside:
            raise ValueError(f"there is no picture in {name}.")
        found += inside
    return found


def read(name):
    """A picture, turned upright. Raises ValueError where the file cannot be read as one."""
    if name != "-":
        return open_picture(name)
    try:
        return open_picture(io.BytesIO(sys.stdin.buffer.read()))
    except ValueError as error:
        raise ValueError(f"standard input is no picture that can be read: {error.__cause__ or error}") from None
