"""Golden numbers of official networks: the rules by which tests/parity/*.json fill weights and inputs, and the comparison."""

import json
import math
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "parity"
RULES = {"A": ("fill", "outputs", "tolerance"), "B": ("rule_b_fill", "rule_b_outputs", "rule_b_tolerance")}


def golden(name):
    """One file of numbers."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def wave(shape, k, name, rule, scale):
    """Tensor number k of a state dict by rule A or B, float64."""
    count = math.prod(shape)
    q = np.arange(min(count, 9973), dtype=np.int64)
    wave = np.sin(0.1 * q + k) if rule == "A" else np.sin(2 * np.pi * ((q * q * (k + 1) + 13 * q) % 9973) / 9973 + k)
    if len(shape) > 1:
        return np.resize(scale / math.sqrt(math.prod(shape[1:])) * wave, shape)
    return np.resize((1 if name.endswith((".weight", "running_var")) else 0) + 0.1 * wave, shape)


@torch.no_grad()
def fill(network, numbers, rule, released_name=str):
    """Fill a network in place; its names must lead, by `released_name`, to names of the file with the same shapes."""
    places = {name: (k, shape) for k, (name, shape, _) in enumerate(numbers["state_dict"])}
    scale = numbers[RULES[rule][0]]["scale"]
    for name, value in network.state_dict().items():
        k, shape = places[released_name(name)]
        assert list(value.shape) == shape, (name, value.shape, shape)
        if value.is_floating_point():
            value.copy_(torch.from_numpy(wave(shape, k, released_name(name), rule, scale)))
    return network.eval()


def inputs(numbers, dtype):
    """The inputs of the file, in order."""
    found = []
    for about in numbers["inputs"]:
        wave = np.sin(0.05 * np.arange(math.prod(about["shape"])) + about["seed"]).reshape(about["shape"])
        found.append(torch.from_numpy(about.get("offset", 0) + about.get("gain", 1) * wave).to(dtype))
    return found


def largest_miss(outputs, numbers, rule):
    """Largest deviation from the file's samples, as a multiple of its tolerance for this float type; shapes are compared."""
    worst = 0.0
    for out, wanted in zip(outputs, numbers[RULES[rule][1]], strict=True):
        assert list(out.shape) == wanted["shape"]
        tolerance = numbers[RULES[rule][2]]["float64_atol" if out.dtype == torch.float64 else "float32_atol"]
        samples = torch.tensor(wanted["sample_values"], dtype=torch.float64)
        miss = (out.flatten()[wanted["sample_indices"]].double() - samples).abs().max().item()
        worst = max(worst, miss / tolerance)
    return worst
