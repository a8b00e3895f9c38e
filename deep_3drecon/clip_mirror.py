"""Left for right in what `clip_regressor` sees and says. A face and its mirror image are two looks at one clip.

Shapes: C clips of K frames; views (C, K, 2, h, w), numbers (C, K, N) of `Viewer.numbers`, output as that of `ClipNetwork`.
"""

import numpy as np
import torch

from deep_3drecon.clip_views import POINTS, corrected


class Mirror:
    """What a face model's coefficients and landmarks become in a mirror."""

    def __init__(self, model):
        names, flip = model.expression_names, torch.tensor([-1.0, 1, 1])
        other = [n.replace("Left", "#").replace("Right", "Left").replace("#", "Right") for n in names]
        self.exp = [names.index(name) for name in other]
        moved = corrected(names)
        self.moved = [moved.index(self.exp[k]) for k in moved]
        places = model.landmarks(model.mean[None])[0]
        partner = torch.cdist(places * flip, places).argmin(1).numpy()
        self.points = np.searchsorted(POINTS, partner[POINTS])
        face = model.regions["face"]
        basis = model.id_basis[face].flatten(0, 1).double()
        mirrored = (model.id_basis[model.mirror] * flip[:, None])[face].flatten(0, 1).double()
        self.id = torch.linalg.solve(basis.T @ basis, basis.T @ mirrored).T.float()
        self.angle = torch.tensor([1.0, -1, -1])

    def beside(self, *seen):
        """Mouth, face and numbers of C clips -> the same of 2 C, the last C mirrored."""
        *views, numbers = seen
        return *(torch.cat([view, view.flip(-1)]) for view in views), torch.cat([numbers, self.numbers(numbers)])

    def mean(self, out):
        """Output {name: tensor} for clips `beside` their mirror images -> the mean for the clips."""
        first, other = ({name: value.chunk(2)[half] for name, value in out.items()} for half in (0, 1))
        back = self.output(other)
        return {name: (value + back[name]) / 2 for name, value in first.items()}

    def output(self, out):
        """Corrections of the mirrored clips."""
        change = {
            "exp": lambda exp: exp[..., self.moved],
            "angle": lambda angle: angle * self.angle,
            "id": lambda id: id @ self.id,
            "points": self.misses,
        }
        return {name: change[name](value) for name, value in out.items()}

    def numbers(self, numbers):
        """Expression, scores, angle, misses, identity."""
        n_exp = len(self.exp)
        exp, scores, angle, misses, id = numbers.split([n_exp, n_exp, 3, 2 * len(POINTS), len(self.id)], -1)
        misses = self.misses(misses.unflatten(-1, (-1, 2))).flatten(-2)
        return torch.cat([exp[..., self.exp], scores[..., self.exp], angle * self.angle, misses, id @ self.id], -1)

    def misses(self, values):
        """(..., len(POINTS), 2) px."""
        return values[..., self.points, :] * torch.tensor([-1.0, 1.0])
