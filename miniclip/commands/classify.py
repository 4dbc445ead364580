"""The command `python -m miniclip classify`: which of these names is it?"""

import csv
import io
import json
import sys
from glob import glob
from pathlib import Path

from .asking import CHECKPOINT, LOADING, check_text, in_line, load_model, read_picture

BLOCK = 32  # pictures that are asked about together
CLASSIFY = (
    (
        "pictures",
        {"nargs": "+"},
        "image files, folders of them, patterns such as 'photos/*.png', or - for standard input",
    ),
    ("--labels", {"required": True}, """names separated by commas, with quotes as in a CSV: 'a,"salt, pepper"'"""),
    ("--template", {"action": "append"}, 'a prompt such as "a drawing of {}"; may be repeated'),
    ("--count", {"type": int, "default": 5}, "how many to print (default: 5)"),
    CHECKPOINT,
    ("--json", {"action": "store_true"}, "print JSON"),
    ("--csv", {"action": "store_true"}, "print a table: picture,label,probability"),
    *LOADING,
)


def run_classify(options):
    """classify: how likely each label is for each picture. Status 2 where one picture cannot be read."""
    from ..evaluation import NONE, calibrated

    if options.count < 1:
        raise ValueError(f"--count is {options.count}; it must be at least 1.")
    labels, names = read_labels(options.labels), find_pictures(options.pictures)
    clip = load_model(options.checkpoint, options)
    labels = different(clip, labels, options.template or ["{}"])
    if calibrated(clip) and NONE in labels:
        raise ValueError(f"--labels holds {NONE!r}, which is one of the answers in any case: leave it out.")
    answers, broken = [], []
    for start in range(0, len(names), BLOCK):
        for name, best in ask(clip, names[start : start + BLOCK], labels, options, broken):
            answers.append((name, best))
            if not options.json and not options.csv:
                print("\n".join([in_line(name), *(f"  {chance:7.2%}  {label}" for label, chance in best)]), flush=True)
    if options.json:
        print(json.dumps([{"picture": name, "labels": dict(best)} for name, best in answers], indent=2))
    if options.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["picture", "label", "probability"])
        table.writerows([name, label, f"{chance:.6g}"] for name, best in answers for label, chance in best)
    for error in broken:
        print(f"miniclip: {in_line(error)}", file=sys.stderr)
    return 2 if broken else 0


def ask(clip, names, labels, options, broken):
    """Some pictures' (name, the best of [(label, probability)]); what cannot be read is added to `broken`.

    One of the labels is "none of these", where the model was calibrated.
    """
    from ..evaluation import NONE, calibrated, classify_or_none
    from ..preprocess import shrink

    pictures = {}
    for n, name in enumerate(names):
        try:
            pictures[n] = shrink([read_picture(name)], clip.config)[0]
        except ValueError as error:
            broken.append(error)
    if not pictures:
        return
    asked = list(pictures.values()), labels, options.template
    chances = classify_or_none(clip, *asked) if calibrated(clip) else clip.classify(*asked)
    for n, row in zip(pictures, chances.tolist()):
        yield names[n], sorted(zip([*labels, NONE], row), key=lambda pair: -pair[1])[: options.count]


def read_labels(text):
    """The names in one line of a CSV. Raises ValueError for a quote left open and for less than two."""
    try:
        rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"--labels is no line of a CSV ({error}): a name with a comma stands in quotes.") from None
    labels = [label.strip() for row in rows for label in row if label.strip()]
    if len(set(labels)) < 2:
        raise ValueError(f"--labels names {len(set(labels))} label; give at least two, separated by commas.")
    return labels


def different(clip, labels, templates):
    """Of labels that the model reads as the same ("Cat", "cat") the first. ValueError where it cannot read one."""
    first = {}
    for label in labels:
        for template in templates:
            check_text(clip, template.replace("{}", label), f"the label {label[:30]!r}")
        first.setdefault(tuple(clip.tokenizer.encode(label)), label)
    if len(first) < 2:
        raise ValueError(f"--labels names {len(first)} label that the model tells from others; give at least two.")
    if len(first) < len(labels):
        print("miniclip: of labels that are the same, one is asked about.", file=sys.stderr)
    return list(first.values())


def find_pictures(names):
    """The files that are meant: of a folder all that look like pictures, of a pattern what fits, ~ for one's home.

    Raises ValueError for a folder or a pattern without pictures.
    """
    from ..data import endings

    found = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
            inside = [str(file) for file in files if file.suffix.lower() in endings()]
        elif name == "-" or path.exists() or not set("*?[") & set(name):
            inside = [str(path)]
        else:
            inside = sorted(glob(str(path)))
        if not inside:
            raise ValueError(f"there is no picture in {name}.")
        found += inside
    return found
