"""The manner of a talking mesh: what `talking_style` knows of a person, made from samples, an identity, a fit or a blend."""

from dataclasses import dataclass

import numpy as np

from models import json_files

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
        content = {"origin": self.origin, "source": self.source, "basis": self.basis}
        content["vector"] = [float(f"{x:.7g}") for x in self.vector]
        json_files.write(path, FORMAT, content)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        remedy = "make one with inference.py --mesh --save_style"
        content = json_files.read(path, FORMAT, MeshStyleError, "mesh style", remedy)
        try:
            return cls(content["vector"], content["origin"], content["source"], content["basis"])
        except (KeyError, TypeError, ValueError) as error:
            raise MeshStyleError(f"{path}: damaged mesh style ({error}): {remedy}") from error
