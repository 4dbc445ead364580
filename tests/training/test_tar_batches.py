"""Batches out of tars: every pair once an epoch, the same for any number of ranks, and nothing lost in silence."""

import tarfile
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_tokenizer import SMALL
from tar_files import pair, write_tar, write_tars

from miniclip.backend import worker_threads
from miniclip.data import index_tar, load_data
from miniclip.gradcheck.contract import same_bits
from miniclip.init import model_config
from miniclip.preprocess import preprocess
from miniclip.training import TrainConfig
from miniclip.training.tar_batches import TARS, TarBatches

CONFIG = TrainConfig("resnet-micro", batch_size=10, micro_batch=4)  # of 4, 3 and 3 pairs


def batches_of(name, context_length=77, **changes):
    text = {"vocab_size": SMALL.vocab_size, "context_length": context_length}
    return TarBatches(load_data(name)[0], SMALL, model_config("resnet-micro", **text), replace(CONFIG, **changes))


def shown(batches, batch):
    """Which pair each picture of a batch shows."""
    red, green = ([m[c] for m in (batches.mean.ravel(), batches.std.ravel())] for c in (0, 1))
    colour = lambda x, c: round(float(x.mean() * c[1] + c[0]) * 255)
    return [colour(x[0], red) + 256 * (colour(x[1], green) > 99) for images, _ in batch for x in images]


def told(batch):
    """Which pair each text of a batch tells, of texts that end in the number."""
    return [int(SMALL.decode([i for i in row.tolist()[1:] if i and i != SMALL.end_token]).replace(" ", "")[5:])
            for _, tokens in batch for row in tokens]  # fmt: skip


def same_batches(a, b):
    return len(a) == len(b) and all(same_bits(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


@pytest.mark.parametrize("counts", [[23, 1, 7, 40, 12, 9, 30, 2, 25, 11], [100], [37, 38]])
def test_every_pair_once_an_epoch(counts, tmp_path):
    """Of many tars and of fewer than lanes; the text is the picture's, and the order another in each epoch."""
    batches = batches_of(write_tars(tmp_path, counts))
    total = sum(counts)
    epochs = 3
    steps = -(-total * epochs // 10)
    order = []
    for step in range(steps):
        batch = batches(step)
        assert [images.shape for images, _ in batch] == [(n, 3, 32, 32) for n in (4, 3, 3)]
        assert all(images.dtype == np.float32 and tokens.dtype == np.int64 for images, tokens in batch)
        numbers = told(batch)
        assert numbers == shown(batches, batch) and len(set(numbers)) == 10
        order += numbers
    replaced = batches.replaced["repeated"]  # where an epoch ends in the middle of a batch
    assert replaced <= 4 * epochs and set(order) == set(range(total))
    if total % 10 == 0:
        assert replaced == 0
        firsts = [order[total * e : total * (e + 1)] for e in range(epochs)]
        assert all(sorted(first) == list(range(total)) for first in firsts) and firsts[0] != firsts[1] != firsts[2]
    else:
        seen = Counter(order)
        assert sum(abs(seen[k] - epochs) for k in range(total)) <= 2 * replaced + 10
    assert batches.positives(0) == [None] and len(batches.things) == total and batches.size == 32


def test_tars_are_dealt_anew_each_epoch(tmp_path):
    """And by another seed otherwise; the pairs of each window come from all its tars, in no order."""
    name = write_tars(tmp_path, [12] * 12)
    batches = batches_of(name)
    dealt = [b.epoch(e).windows for b, e in ((batches, 0), (batches, 1), (batches_of(name, seed=1), 0))]
    assert all(sorted(np.concatenate(windows)) == list(range(12)) for windows in dealt)
    assert len({str(windows) for windows in dealt}) == 3 and [len(tars) for tars in dealt[0]] == [4, 4, 4]
    tars = batches.window(0, 1).tar
    assert set(tars) == set(dealt[0][1]) and 20 < np.count_nonzero(np.diff(tars)) <= 47


def test_a_batch_follows_from_the_seed_and_the_step_alone(tmp_path):
    """Not from what was drawn before, nor from threads, nor from the number of ranks."""
    name = write_tars(tmp_path, [13, 20, 9, 16, 30, 12, 5], text=lambda k: f"thing {k % 80}")
    in_turn = batches_of(name, batch_size=16)
    drawn = [in_turn(step) for step in range(15)]
    assert in_turn.replaced["repeated"]
    with worker_threads(3) as pool:
        for step in (14, 3, 7):
            assert same_batches(batches_of(name, batch_size=16)(step, pool.map), drawn[step])
    for ranks in (2, 4):
        parts = [batches_of(name, batch_size=16) for _ in range(ranks)]
        for step in (0, 9, 14):
            found = [parts[rank](step, part=(rank, ranks)) for rank in range(ranks)]
            assert [len(part) for part in found] == [4 // ranks] * ranks
            assert same_batches(sum(found, []), drawn[step])
        for step in set(range(15)) - {0, 9, 14}:
            for rank, part in enumerate(parts):
                part(step, part=(rank, ranks))
        assert sum((part.replaced for part in parts), Counter()) == +in_turn.replaced
    assert not same_batches(batches_of(name, batch_size=16, seed=1)(3), drawn[3])


def test_a_rank_opens_few_tars(tmp_path, monkeypatch):
    name = write_tars(tmp_path, [8] * 24)
    batches, opened = batches_of(name, batch_size=16, micro_batch=4), []
    monkeypatch.setattr(batches.data, "open", lambda t, open=batches.data.open: opened.append(t) or open(t))
    steps = 192 // 16
    for step in range(steps):
        batches(step, part=(1, 4))
    assert len(set(opened)) <= 6 + 2 * TARS  # its quarter of the epoch, and where it begins and ends
    assert len(batches.windows) <= 8 and list(batches.epochs) == [0]


def test_no_text_twice_in_a_batch(tmp_path):
    """Neither as it stands, nor as it is read: in other letters, with other spaces."""
    same = lambda k: ("Thing  {}", "thing {} ", "THING\t{}")[k % 3].format(k // 3)
    batches = batches_of(write_tars(tmp_path, [30, 40, 20], text=same))
    for step in range(18):
        batch = batches(step)
        rows = [row.tobytes() for _, tokens in batch for row in tokens]
        assert len(set(rows)) == 10 and told(batch) == [k // 3 for k in shown(batches, batch)]
    assert 10 < batches.replaced["repeated"] < 100 and batches.replaced["unreadable"] == 0


@pytest.mark.filterwarnings("ignore:the text")
def test_texts_that_are_cut_to_one_beginning(tmp_path):
    """In a micro-batch, where fewer tokens are read than texts are compared by."""
    batches = batches_of(write_tars(tmp_path, [30], text=lambda k: f"{chr(97 + k // 2)} red circle, {k}"), 5)
    for step in range(6):
        assert all(len({row.tobytes() for row in tokens}) == len(tokens) for _, tokens in batches(step))
    assert batches.replaced["repeated"]


def test_a_picture_that_cannot_be_read_is_replaced(tmp_path):
    """And counted, and the first one named; the same on any number of ranks."""
    bad = {3, 17, 40, 41}
    files = [[(name, content[: 60 if k in bad and name.endswith("png") else None]) for name, content in pair(k)]
             for k in range(60)]  # fmt: skip
    for t in range(3):
        index_tar(write_tar(tmp_path / f"{t}.tar", sum(files[20 * t : 20 * t + 20], [])))
    batches = batches_of(tmp_path)
    with pytest.warns(
        UserWarning, match=r"0000\d\d\.png in .*\d\.tar cannot be read \(.*\) and is replaced by"
    ) as said:
        drawn = [batches(step) for step in range(6)]
    assert len(said) == 1 and batches.replaced["unreadable"] == len(bad)
    for batch in drawn:
        numbers = told(batch)
        assert numbers == shown(batches, batch) and len(set(numbers)) == 10 and not bad & set(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [batches_of(tmp_path)(2, part=(rank, 3)) for rank in range(3)]
    assert same_batches(sum(parts, []), drawn[2])


@pytest.mark.filterwarnings("ignore:.*is replaced by another")
def test_lanes_that_replace_pictures_at_once_take_different_ones(tmp_path):
    """Though none knows what the other one cannot read."""
    files = [(name, b"no picture" if k % 3 == 0 and name.endswith("png") else content)
             for k in range(30) for name, content in pair(k)]  # fmt: skip
    index_tar(write_tar(tmp_path / "a.tar", files))
    batches = batches_of(tmp_path / "a.tar", batch_size=8)
    for step in range(25):
        numbers = told(batches(step))
        assert len(set(numbers)) == 8 and all(number % 3 for number in numbers)
    assert batches.replaced["unreadable"] > 50


def test_too_few_captions_that_differ(tmp_path):
    name = write_tars(tmp_path, [30, 6], text=lambda k: f"thing {k % 7}")
    with pytest.raises(
        ValueError, match="too few pictures with captions that differ for a batch of 10; choose a smaller"
    ):
        batches_of(name)(0)
    assert len(set(told(batches_of(name, batch_size=7)(5)))) == 7
    with pytest.raises(
        ValueError, match=r"a batch of 37 is larger than the 36 pairs of .*; choose a batch of at most 36"
    ):
        batches_of(name, batch_size=37)


def test_a_batch_of_all_there_is(tmp_path):
    batches = batches_of(write_tars(tmp_path, [3, 4, 3]))
    assert all(sorted(told(batches(step))) == list(range(10)) for step in range(4))


def test_a_random_square_is_what_the_model_is_shown(tmp_path):
    """As large as the picture allows, from one side to the other; and without augmentation the middle, to the bit."""
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None, None], (96, 32, 3))
    files = []
    for k in range(12):
        (tmp_path / "ramp.png").unlink(missing_ok=True)
        Image.fromarray(ramp).save(tmp_path / "ramp.png")
        files += [(f"{k}.png", (tmp_path / "ramp.png").read_bytes()), (f"{k}.txt", b"ramp %d" % k)]
    index_tar(write_tar(tmp_path / "a.tar", files))
    batches, tops = batches_of(tmp_path / "a.tar"), []
    for step in range(30):
        for image in np.concatenate([images for images, _ in batches(step)]):
            rows = (image[0] * batches.std[0] + batches.mean[0]) * 255
            tops.append(int(rows[0, 0].round()))
            assert np.abs(rows - tops[-1] - np.arange(32)[:, None]).max() < 0.01
    assert len(set(tops)) == 65 or {0, 64} <= set(tops) and len(set(tops)) > 55
    still = batches_of(tmp_path / "a.tar", augment_strength=0.0)
    [middle] = preprocess([ramp], still.model_config)
    assert all(same_bits(image, middle) for images, _ in still(3) for image in images)


def test_a_tar_that_changes_is_no_unreadable_picture(tmp_path):
    """It stops the run, by its name."""
    batches = batches_of(write_tars(tmp_path, [12, 12]))
    batches(0)
    with tarfile.open(tmp_path / "001.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("new"))
    with pytest.raises(ValueError, match=r"001\.tar changed since it was indexed"):
        batches(1)  # of the same window, whose index was read
