"""Weights of the small networks that were learnt on the open head: a safetensors file with its JSON, and no others taken for them."""

import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from deep_3drecon.face_model import load_face_model


class RegressorError(ValueError):
    """Weights that are missing, damaged or made for something else, or a crop of another form."""


def read_network(folder, name, file_format, make):
    """(network, facts) from <folder>/<name>.safetensors and .json; make(**settings) gives the network that the weights are for."""
    folder = Path(folder)
    try:
        facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        data = (folder / f"{name}.safetensors").read_bytes()
    except (OSError, json.JSONDecodeError) as error:
        raise RegressorError(
            f"{folder}: no face regressor {name} ({error}): take the released one, or python -m scripts.train_regressor"
        ) from error
    if facts.get("format") != file_format:
        raise RegressorError(f"{folder}/{name}.json: format {facts.get('format')!r} came, {file_format!r} is needed")
    face = load_face_model("open")
    if facts["face_model_hash"] != face.hash:
        raise RegressorError(
            f"{folder}: was trained on face model open {facts['face_model_hash']}, here it is {face.hash}: fetch the "
            "assets of this version with python -m scripts.download, or train anew"
        )
    network = make(**facts["network"])
    load_strictly(network, data, folder / f"{name}.safetensors")
    return network, facts


def write_network(network, facts, folder, name, file_format):
    """Write the two files, weights in half precision, each aside first. Returns the facts with what describes the weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.half().contiguous() for key, value in network_state(network).items()}
    data = safetensors.torch.save(state)
    facts = facts | {
        "format": file_format,
        "network": network.settings,
        "face_model": "open",
        "face_model_hash": load_face_model("open").hash,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    text = json.dumps(facts, indent=1) + "\n"
    for suffix, content in ((".safetensors", data), (".json", text.encode())):
        part = folder / f"{name}{suffix}.part"
        part.write_bytes(content)
        os.replace(part, folder / f"{name}{suffix}")
    return facts


def network_state(network):
    """What is kept of a network: its floating point values by name."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def load_strictly(network, data, name):
    """Put safetensors bytes into a network; weights that are missing, unknown or of another shape are named."""
    try:
        state = safetensors.torch.load(data)
    except SafetensorError as error:
        raise RegressorError(f"{name}: damaged ({error}): fetch it again") from error
    wanted = network_state(network)
    faults = [f"missing {key}" for key in wanted.keys() - state.keys()]
    faults += [f"unknown {key}" for key in state.keys() - wanted.keys()]
    for key in wanted.keys() & state.keys():
        if state[key].shape != wanted[key].shape:
            faults.append(f"{key} is {tuple(state[key].shape)}, needed {tuple(wanted[key].shape)}")
    if faults:
        raise RegressorError(f"{name}: not the weights of this network: {', '.join(sorted(faults))}")
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
