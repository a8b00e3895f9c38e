"""Names for the numbers of a face vector; no other module slices one.

Order of the parts, shared by the five papers (Deep3DFaceReconstruction): identity, expression, texture, Euler angle,
lighting gamma, translation. How many numbers identity, expression and texture take depends on the face model.
"""

from dataclasses import dataclass

import numpy as np
import torch

PARTS = ("id", "exp", "tex", "angle", "gamma", "trans")


@dataclass(frozen=True)
class Layout:
    """Sizes of the parts of one face model's vector.

    >>> Layout(id=80, exp=64, tex=80).size
    257
    """

    id: int
    exp: int
    tex: int
    angle: int = 3
    gamma: int = 27
    trans: int = 3

    @property
    def sizes(self):
        """{part: count} in the order of the vector."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def size(self):
        """Length of the whole vector."""
        return sum(self.sizes.values())

    def split(self, coeff):
        """(..., size) array or tensor -> {part: view (..., n)}."""
        if coeff.shape[-1] != self.size:
            raise ValueError(
                f"a face vector of {coeff.shape[-1]} numbers came, {self.size} are needed ({self.sizes}): "
                "use the face model the vector was made with"
            )
        out, start = {}, 0
        for name, n in self.sizes.items():
            out[name] = coeff[..., start : start + n]
            start += n
        return out

    def join(self, **parts):
        """Parts (..., n) -> (..., size); a part that is left out is zero. Arrays give an array, tensors a tensor."""
        unknown = set(parts) - set(PARTS)
        if unknown or not parts:
            raise ValueError(f"parts {sorted(unknown)} came, the names are {PARTS}")
        first = next(iter(parts.values()))
        for name, value in parts.items():
            if value.shape[-1] != self.sizes[name]:
                raise ValueError(f"{name}: {value.shape[-1]} numbers came, {self.sizes[name]} are needed")
        if isinstance(first, torch.Tensor):
            filled = [parts[n] if n in parts else first.new_zeros(*first.shape[:-1], k) for n, k in self.sizes.items()]
            return torch.cat(filled, -1)
        filled = [
            parts[n] if n in parts else np.zeros((*first.shape[:-1], k), first.dtype) for n, k in self.sizes.items()
        ]
        return np.concatenate(filled, -1)


BFM_LAYOUT = Layout(id=80, exp=64, tex=80)
OPEN_LAYOUT = Layout(id=80, exp=52, tex=0)


# Shorter and longer vectors of the published systems, 25 fps unless their own specification says otherwise: {kind: {part: count}}.
# `crop` is (scale, tx, ty) of the five-point alignment, `shift` a shift of the picture in pixels.
VECTORS = {
    "exp_pose": {"exp": 64, "angle": 3, "trans": 3},  # SadTalker; HeadPose trains on it with 0.5 taken off z
    "pirender": {"exp": 64, "angle": 3, "trans": 3, "crop": 3},  # PIRenderer, Style2Talker, SadTalker, StyleTalk
    "headpose": {
        "exp": 64,
        "angle": 3,
        "trans": 3,
        "shift": 2,
        "source_frame": 1,
    },  # as long as pirender, another thing
    "pirender_store": BFM_LAYOUT.sizes | {"crop": 3},
    "bfm": BFM_LAYOUT.sizes,
}


def split_vector(vector, kind):
    """(..., n) array or tensor of a kind in VECTORS -> {part: view (..., count)}.

    >>> list(split_vector(np.zeros((25, 73)), "pirender"))
    ['exp', 'angle', 'trans', 'crop']
    """
    sizes = _sizes(kind)
    if vector.shape[-1] != sum(sizes.values()):
        raise ValueError(f"{kind}: {vector.shape[-1]} numbers came, {sum(sizes.values())} are needed ({sizes})")
    out, start = {}, 0
    for name, n in sizes.items():
        out[name] = vector[..., start : start + n]
        start += n
    return out


def join_vector(kind, **parts):
    """Every part (..., count) of a kind in VECTORS -> (..., n); inverse of `split_vector`."""
    sizes = _sizes(kind)
    came = {name: value.shape[-1] for name, value in parts.items()}
    if came != sizes:
        raise ValueError(f"{kind}: parts {came} came, {sizes} are needed")
    values = [parts[name] for name in sizes]
    return torch.cat(values, -1) if isinstance(values[0], torch.Tensor) else np.concatenate(values, -1)


def _sizes(kind):
    if kind not in VECTORS:
        raise ValueError(f"vector kind {kind!r} came, available: {', '.join(VECTORS)}")
    return VECTORS[kind]
