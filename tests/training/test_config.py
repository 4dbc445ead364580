"""Configurations: what they refuse, and how they are kept."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from miniclip.init import MODELS
from miniclip.training import PRESETS, TrainConfig, preset
from miniclip.training.config import FORMER_NAMES


def test_presets():
    assert {"default", "full", "shapes"} <= PRESETS.keys()
    for name, config in PRESETS.items():
        assert preset(name) == config
        assert config.model in MODELS
        assert config.warmup < config.steps and config.micro_batch <= config.batch_size
    changed = preset("default", steps=7, seed=3, batch_size=None)
    assert changed == replace(PRESETS["default"], steps=7, seed=3)
    assert preset("shapes", weight_decay=0).weight_decay == 0  # 0 is a value, None is none
    assert PRESETS["default"].seed == 0 and PRESETS["default"].steps != 7
    with pytest.raises(FrozenInstanceError):
        PRESETS["default"].steps = 1


@pytest.mark.parametrize(
    "field, value",
    [
        ("steps", 0),
        ("steps", -3),
        ("batch_size", 0),
        ("batch_size", 1),
        ("micro_batch", 0),
        ("checkpoint_every", 0),
        ("log_every", 0),
        ("context_length", 2),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("max_grad_norm", 0.0),
        ("epsilon", 0.0),
        ("seed", -1),
        ("learning_rate", float("inf")),
        ("beta1", 1),
        ("beta2", -0.1),
        ("ema_decay", 1.5),
        ("weight_decay", -1.0),
        ("warmup", -1),
        ("evaluate_every", -1),
        ("augment_strength", float("nan")),
        ("description_weight", -0.3),
    ],
)
def test_a_value_that_cannot_be_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} is {value}; it must be "):
        TrainConfig(**{field: value})
    with pytest.raises(ValueError, match=f"^{field} is {value}; it must be "):  # and on the way back
        TrainConfig.from_json(TrainConfig().to_json() | {field: value})


def test_what_is_not_there_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="no preset 'fast'; choose one of .*default.*full"):
        preset("fast")
    with pytest.raises(ValueError, match="no model 'resnet-50'; choose one of .*resnet-tiny"):
        TrainConfig(model="resnet-50")
    with pytest.raises(ValueError, match="no precision 'float8'; choose one of float32"):
        TrainConfig(precision="float8")
    with pytest.raises(ValueError, match="no optimizer 'adam'; choose one of adamw, muon"):
        TrainConfig(optimizer="adam")
    with pytest.raises(ValueError, match="augmentation has no part 'blur'; it has .*rotate"):
        TrainConfig(augmentation={"blur": 1})
    with pytest.raises(ValueError, match="mix is 1.5; it is a share, between 0 and 1"):
        TrainConfig(mix=1.5)


@pytest.mark.parametrize("config", [*PRESETS.values(), TrainConfig(seed=2**40, mix=0.25, recompute=True)])
def test_through_json_and_back(config):
    description = json.loads(json.dumps(config.to_json()))
    assert TrainConfig.from_json(description) == config
    former = {name: old for old, name in FORMER_NAMES.items()}  # as a version with other names wrote it
    assert TrainConfig.from_json({former.get(name, name): value for name, value in description.items()}) == config


GOOD = TrainConfig().to_json()
OTHER = [
    None,
    [],
    "default",
    {},
    {"steps": 3},
    GOOD | {"momentum": 0.9},
    GOOD | {"steps": "many"},
    GOOD | {"model": {}},
]


@pytest.mark.parametrize("description", OTHER)
def test_what_is_no_configuration_is_refused(description):
    with pytest.raises(ValueError, match="the saved configuration is not one of this version"):
        TrainConfig.from_json(description)
