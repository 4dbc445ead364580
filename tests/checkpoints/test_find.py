"""Names of models that someone downloaded: where they are looked for."""

import pytest
from checkpoint_files import make_clip, same
from safetensors.numpy import load_file, save_file

from miniclip import load, save
from miniclip.checkpoints import find_weights
from miniclip.checkpoints.find import OPENAI


@pytest.fixture
def nobody_home(tmp_path, monkeypatch):
    """A home and caches in which there is nothing."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    return tmp_path


CACHES = [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]


@pytest.mark.parametrize("variable, below", [*CACHES, (None, "home/.cache/huggingface/hub")])
def test_a_name_of_the_hub_is_found_in_its_cache(nobody_home, monkeypatch, variable, below):
    cache = nobody_home / below if variable is None else nobody_home / "cache" / below
    if variable:
        monkeypatch.setenv(variable, str(nobody_home / "cache"))
    snapshots = cache / "models--some--model" / "snapshots"
    for seed, revision in enumerate(("aaa", "bbb", "ccc")):
        (snapshots / revision).mkdir(parents=True)
        if revision != "ccc":
            save(make_clip(seed=seed), snapshots / revision, "huggingface")
    refs = snapshots.parent / "refs"
    refs.mkdir()
    for main, seed in (("bbb", 1), ("aaa\n", 0), ("ccc", 0), ("../../..", 0), ("\xff", 0)):
        (refs / "main").write_bytes(main.encode("latin-1"))
        assert same(load("some/model"), make_clip(seed=seed))
    weights = snapshots / "bbb" / "model.safetensors"
    save_file(load_file(weights), weights)
    (refs / "main").write_text("bbb")
    assert load("some/model").about == {"layout": "huggingface", "folder": "some/model", "file": "model.safetensors"}
    with pytest.raises(FileNotFoundError, match=r"hf download other/model"):
        load("other/model")


def test_openais_names_are_found_where_its_program_keeps_them(nobody_home):
    with pytest.raises(FileNotFoundError, match="ViT-B-32.pt.*hf download openai/clip-vit-base-patch32"):
        load("ViT-B/32")
    folder = nobody_home / "home" / ".cache" / "clip"
    folder.mkdir(parents=True)
    for name, file in (("ViT-B/32", "ViT-B-32.pt"), ("ViT-L/14@336px", "ViT-L-14-336px.pt"), ("RN50", "RN50.pt")):
        (folder / file).touch()
        assert find_weights(name) == folder / file
    with pytest.raises(FileNotFoundError, match="hf download timm/resnet101_clip.openai"):
        load("RN101")
    assert len(OPENAI) == 9
