"""The manner of a talking mesh: what `talking_style` knows of a person, made from samples, an identity, a fit or a blend."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = "idiolect-mesh-style-1"
ORIGINS = ("sample", "identity", "fit", "blend", "pivot")


class MeshStyleError(ValueError):
    """A manner that cannot be read or combined."""


@dataclass
class MeshStyle:
    """One manner of talking.

    vector: (D,) float32, what the network is given: a code, then the rest and the logarithm of the spread of each coefficient, in
    deviations of the training set. origin: one of ORIGINS. source: free text. checkpoint: hash of the basis it belongs to.
    """

    vector: np.ndarray
    origin: str = "sample"
    source: str = ""
    basis: str = ""

    def __post_init__(self):
        self.vector = np.asarray(self.vector, np.float32).ravel()
        if self.origin not in ORIGINS or not np.isfinite(self.vector).all():
            raise MeshStyleError(f"{self.source or 'style'}: origin {self.origin!r} or numbers that are not finite")

    @staticmethod
    def blend(styles, weights):
        """Weighted sum; weights should add up to 1."""
        sizes = {(len(s.vector), s.basis) for s in styles}
        if len(sizes) != 1 or len(styles) != len(weights):
            raise MeshStyleError(f"{len(styles)} styles of {len(sizes)} kinds came: at least one, all of one network")
        vector = sum(w * s.vector for s, w in zip(styles, weights, strict=True))
        source = " + ".join(f"{w:g} {s.source}" for s, w in zip(styles, weights, strict=True))
        return MeshStyle(vector, "blend", source, styles[0].basis)

    def save(self, path):
        """Write as JSON, aside first."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "origin": self.origin, "source": self.source, "basis": self.basis}
        content["vector"] = [float(f"{x:.7g}") for x in self.vector]
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(content, indent=1))
        os.replace(part, path)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        try:
            content = json.loads(Path(path).read_text())
            if content["format"] != FORMAT:
                raise KeyError(f"format {content['format']}")
            return cls(content["vector"], content["origin"], content["source"], content["basis"])
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise MeshStyleError(f"{path}: no mesh style ({error}): make one with MeshStyle.save") from error
