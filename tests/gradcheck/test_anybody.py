"""Other people's code, handed to `check` as it stands: what is right passes, and what is spoiled is found."""

import pytest
from peoples_classes import OBJECTS
from peoples_functions import FUNCTIONS
from peoples_networks import NETWORKS
from peoples_surprises import SURPRISES

from miniclip.gradcheck import check
from miniclip.gradcheck.conventions.run import Run

PEOPLE = [
    pytest.param(f, args, options, names, id=name)
    for name, f, args, options, names in FUNCTIONS + OBJECTS + NETWORKS + SURPRISES
]


@pytest.mark.parametrize("f, args, options, names", PEOPLE)
def test_what_is_right_passes_and_one_percent_is_found(f, args, options, names, monkeypatch):
    options = options | options["kwargs"]
    options.pop("kwargs")
    report = check(f, *args, **options)
    assert report.ok and [row.name for row in report.rows] == names, f"\n{report}"

    pull = Run.pull
    for spoiled in names[:3]:

        def pull_spoiled(run, *cotangents):
            gradients = pull(run, *cotangents)
            return {name: g * 1.01 if name == spoiled and g is not None else g for name, g in gradients.items()}

        monkeypatch.setattr(Run, "pull", pull_spoiled)
        wrong = [row.name for row in check(f, *args, **options).rows if not row.ok]
        assert wrong == [spoiled]
