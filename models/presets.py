"""Presets: a network's numbers under a name, single ones replaced by settings."""

import inspect


class PresetError(ValueError):
    """A preset, or a number of one, that does not exist."""


def check_preset(presets, preset):
    """Refuse a name that is not among the presets."""
    if preset not in presets:
        raise PresetError(f"preset {preset!r} came, there is {', '.join(presets)}: use one of these names")


def preset_dims(presets, preset, dims):
    """Numbers of a preset with some replaced. presets: {name: dict of numbers, or function of numbers with defaults}.

    dims: {number: value}. Refuses a preset that is not there, a number that it does not have, and a fraction for a count.
    """
    check_preset(presets, preset)
    found = presets[preset]
    known = found
    if callable(found):
        known = {name: parameter.default for name, parameter in inspect.signature(found).parameters.items()}
    unknown = sorted(set(dims) - set(known))
    if unknown:
        raise PresetError(f"dims {unknown} came, preset {preset} has {', '.join(known)}: use these names")
    for name, value in dims.items():
        if isinstance(known[name], int) and not isinstance(value, int):
            raise PresetError(f"dims {name}: {value!r} came, preset {preset} has {known[name]}: give a whole number")
    return found(**dims) if callable(found) else found | dims
