import json
from dataclasses import FrozenInstanceError, replace

import pytest

from miniclip.init import MODELS
from miniclip.training.config import PRESETS, TrainConfig, preset


def test_presets_are_recipes():
    assert {"default", "full", "shapes"} <= PRESETS.keys()
    for name, recipe in PRESETS.items():
        assert preset(name) == recipe
        assert recipe.model in MODELS
        assert recipe.warmup < recipe.steps and recipe.shard <= recipe.batch


def test_a_preset_with_changes():
    changed = preset("default", steps=7, seed=3, batch=None)
    assert changed == replace(PRESETS["default"], steps=7, seed=3)
    assert preset("default", seed=0) == PRESETS["default"]  # 0 is a value, None is none
    assert PRESETS["default"].seed == 0 and PRESETS["default"].steps != 7


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="no preset 'fast'; choose one of .*default.*full"):
        preset("fast")


def test_a_recipe_does_not_change():
    with pytest.raises(FrozenInstanceError):
        PRESETS["default"].steps = 1


@pytest.mark.parametrize(
    "field, value",
    [
        ("steps", 0),
        ("steps", -3),
        ("batch", 0),
        ("batch", 1),
        ("shard", 0),
        ("checkpoint_every", 0),
        ("log_every", 0),
        ("context", 2),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("clip", 0.0),
        ("epsilon", 0.0),
        ("seed", -1),
    ],
)
def test_a_value_that_cannot_be_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} is {value}; it must be "):
        TrainConfig(**{field: value})


def test_an_unknown_model_names_those_there_are():
    with pytest.raises(ValueError, match="no model 'resnet-50'; choose one of .*resnet-tiny"):
        TrainConfig(model="resnet-50")


@pytest.mark.parametrize("recipe", [*PRESETS.values(), TrainConfig(seed=2**40, mix=0.25, recompute=True)])
def test_through_json_and_back(recipe):
    assert TrainConfig.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    "description", [None, [], "default", {}, {"steps": 3}, TrainConfig().to_json() | {"momentum": 0.9}]
)
def test_what_is_no_recipe_is_refused(description):
    with pytest.raises(ValueError, match="the saved recipe is not one of this version"):
        TrainConfig.from_json(description)


def test_values_are_checked_on_the_way_back():
    with pytest.raises(ValueError, match="steps is 0"):
        TrainConfig.from_json(TrainConfig().to_json() | {"steps": 0})
