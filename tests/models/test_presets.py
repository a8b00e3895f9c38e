"""Every model refuses, in the same words, a preset and a number that it does not have."""

import pytest

from models import METHODS, RENDERERS, find
from models.presets import PresetError, preset_dims

TRAINED = [name for name in METHODS | RENDERERS if name != "mesh"]  # which needs no training and has no presets


def network(width=8, depth=2):
    return {"widths": [width] * depth}


def test_numbers_of_a_preset_are_replaced_by_name():
    assert preset_dims({"small": network}, "small", {"depth": 3}) == {"widths": [8, 8, 8]}
    numbers = {"small": {"width": 8, "depth": 2}}
    assert preset_dims(numbers, "small", {"depth": 3}) == {"width": 8, "depth": 3}
    assert numbers == {"small": {"width": 8, "depth": 2}}


@pytest.mark.parametrize("presets", [{"small": network}, {"small": {"width": 8, "depth": 2}}])
def test_what_does_not_exist_is_named(presets):
    with pytest.raises(PresetError, match="'huge' came, there is small"):
        preset_dims(presets, "huge", {})
    with pytest.raises(PresetError, match=r"\['widht'\] came, preset small has width, depth"):
        preset_dims(presets, "small", {"widht": 3})
    with pytest.raises(PresetError, match="width: 7.5 came, preset small has 8: give a whole number"):
        preset_dims(presets, "small", {"width": 7.5})


@pytest.mark.parametrize("name", TRAINED)
def test_every_model_names_its_presets(name):
    with pytest.raises(ValueError, match="preset 'huge' came, .*: use one of these"):
        find(METHODS | RENDERERS, name)({"preset": "huge", "dims": {}}, {"features": {}})
