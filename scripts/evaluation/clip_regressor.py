"""How far the regressor of clips is off on made people it has not seen, beside the fit that it corrects."""

import numpy as np
import torch

from data_process.made_clip_batches import LEAST_MOVED, PICTURES, ClipData, turn_between
from data_process.made_turns import TEN


def people_rows(regressor, data: ClipData):
    """{"fit": {measure: value}, "corrected": ...}: mean correlation of the ten channels and of each, degrees, landmarks in px."""
    names, network = data.model.expression_names, regressor.network
    rows = {"fit": [], "corrected": []}
    for clip in range(len(data)):
        batch = data.batch([clip], np.arange(data.values["exp"].shape[1])[None])
        with torch.no_grad():
            looks = data.mirror.beside(*(batch[name] for name in (*PICTURES, "numbers")))
            out = data.mirror.mean(network(*looks))
        numbers, n_exp = batch["numbers"][0], len(names)
        exp, angle = numbers[:, :n_exp], numbers[:, 2 * n_exp : 2 * n_exp + 3]
        better = exp.clone()
        better[:, data.moved] += out["exp"][0]
        misses = numbers[:, 2 * n_exp + 3 : -batch["id"].shape[1]].unflatten(-1, (-1, 2))
        guesses = {
            "fit": (exp, angle, misses),
            "corrected": (better.clamp(0, 1), angle + out["angle"][0], out["points"][0]),
        }
        for row, (e, a, p) in guesses.items():
            rows[row].append(_measures(e, a, p, batch, names))
    return {row: {key: float(np.nanmean([m[key] for m in found])) for key in found[0]} for row, found in rows.items()}


def _measures(exp, angle, points, batch, names):
    out = {}
    for name in TEN:
        curves = [x[:, names.index(name)].numpy() for x in (exp, batch["exp"][0])]
        moves = min(curve.std() for curve in curves) > LEAST_MOVED
        out[name] = np.corrcoef(*curves)[0, 1] if moves else np.nan
    ten = float(np.nanmean([out[name] for name in TEN]))
    turn = float(turn_between(angle, batch["angle"][0]).mean())
    px = float((points - batch["points"][0]).norm(dim=-1).mean())
    return {"ten": ten, "rotation": turn, "landmarks px": px} | out
