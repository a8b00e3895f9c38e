"""Landmarks grouped by the expressions that move them, so that the fit's normal equations skip what is zero.

An eyelid does not move with the jaw: of the open head's Jacobian two thirds are zeros. Groups of landmarks that share most of their
expressions keep the products dense, and halve them.
"""

import numpy as np
import torch

N_GROUPS = 4
N_POSE = 6  # columns that every landmark has


def landmark_groups(exp):
    """Basis (L, 3, n_exp) -> [(rows (n,), columns (k,), basis (n, 3, k))]: every landmark once, all its expressions with it.

    The groups that cost least when they are joined are joined, until N_GROUPS are left; a dense basis is one group.
    """
    moved = (exp != 0).any(1).numpy()
    sets, group = np.unique(moved, axis=0, return_inverse=True)
    group, sizes = group.ravel(), np.bincount(group.ravel()).astype(np.float64)
    common = sets.astype(np.float64) @ sets.T
    while len(sets) > N_GROUPS:
        count = common.diagonal()
        union = count[:, None] + count - common
        cost = sizes * (count + N_POSE) ** 2
        added = (sizes[:, None] + sizes) * (union + N_POSE) ** 2 - cost[:, None] - cost
        np.fill_diagonal(added, np.inf)
        first, second = sorted(np.unravel_index(added.argmin(), added.shape))
        sets[first] |= sets[second]
        sizes[first] += sizes[second]
        common[first] = common[:, first] = sets.astype(np.float64) @ sets[first]
        sets, sizes = np.delete(sets, second, 0), np.delete(sizes, second)
        common = np.delete(np.delete(common, second, 0), second, 1)
        group = np.where(group == second, first, group - (group > second))
    pairs = [
        (torch.from_numpy(np.flatnonzero(group == k)), torch.from_numpy(np.flatnonzero(sets[k])))
        for k in range(len(sets))
    ]
    return [(rows, columns, exp[rows][..., columns].contiguous()) for rows, columns in pairs]


def of_landmarks(values, rows):
    """Rows of some landmarks of (T, 2L, n) -> (T, 2 len(rows), n)."""
    return values.unflatten(1, (-1, 2))[:, rows].flatten(1, 2)


def jacobian_parts(groups, by_point, by_pose, n_exp):
    """[(rows, columns, part (T, 2n, k))] of the Jacobian by expression and, unless by_pose is None, by pose.

    by_point: (T, L, 2, 3). by_pose: (T, 2L, 6). Columns count expressions, then pose.
    """
    parts = []
    for rows, columns, basis in groups:
        part = torch.einsum("tlic,lck->tlik", by_point[:, rows], basis).flatten(1, 2)
        if by_pose is not None:
            part = torch.cat([part, of_landmarks(by_pose, rows)], -1)
            columns = torch.cat([columns, torch.arange(n_exp, n_exp + N_POSE)])
        parts.append((rows, columns, part))
    return parts


def gram(parts, n_own):
    """Jacobian' Jacobian (T, n_own, n_own)."""
    out = parts[0][2].new_zeros(len(parts[0][2]), n_own, n_own)
    for _, columns, part in parts:
        out[:, columns[:, None], columns] += part.transpose(1, 2) @ part
    return out


def across(parts, values, n_own):
    """Jacobian' values: (T, 2L, n) -> (T, n_own, n)."""
    out = values.new_zeros(len(values), n_own, values.shape[-1])
    for rows, columns, part in parts:
        out[:, columns] += part.transpose(1, 2) @ of_landmarks(values, rows)
    return out
