"""Presets: a network's numbers under a name, single ones replaced by settings."""

import inspect


def preset_dims(presets, preset, dims):
    """Numbers of a preset with some replaced. presets: {name: function of numbers with defaults}; dims: {number: value}.

    Refuses a preset that is not there and a number that it does not have.
    """
    if preset not in presets:
        raise ValueError(f"preset {preset!r} came, there is {', '.join(presets)}: use one of these names")
    known = inspect.signature(presets[preset]).parameters
    unknown = sorted(set(dims) - set(known))
    if unknown:
        raise ValueError(f"dims {unknown} came, preset {preset} has {', '.join(known)}: use these names")
    return presets[preset](**dims)
