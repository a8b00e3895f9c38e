"""Which learning frames new frames are drawn from: held as long as they fit, then faded into the next.

Every change of the source is seen: its noise, its light and what its fit missed change with it. A source that is held changes nothing, and
one that is far off in pose bends hair and outline. So sources are chosen by the cheapest way through a whole motion, where distance in pose
and each change cost something, and changes are spread over FADE frames, in which a frame is drawn from two sources.
"""

import numpy as np

CHANGE_COST = 6.0  # of a new source, in units of `distance` times frames
FADE = 6  # frames over which one source goes over into the next
BLOCK = 64  # frames whose distances are computed at a time; bounds memory
RAD, DM = 0.1, 0.1  # of angle and of place that count as a distance of 1
LIGHT = 0.05  # of the even part of the light, in which a face's colour is 1
MOST_CANDIDATES = 1000  # learning frames of which all pairs are compared; of a longer clip every second, third, ...
WAYS = 64  # learning frames from which a change is sought
SEEN = (1, 1, 1, 1, 1, 0.2)  # how much of a pose's numbers the picture shows: a head that comes nearer grows little
# expressions that make a poor source: what hides, as eyes and teeth behind lids and lips, or is stretched, cannot be shown otherwise
UNWANTED = {"eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.2, "jawOpen": 0.3}  # name: deviation from the median that counts 1


class Candidates:
    """Learning frames that may be sources: `learnt`, indices into a track with light; pose (T, 6) of all its frames through one crop."""

    def __init__(self, track, pose, learnt, model):
        self.learnt = learnt[:: 1 + len(learnt) // MOST_CANDIDATES]
        parts = track.select(self.learnt).parts()
        self.pose = pose[self.learnt] * SEEN
        self.poor = unfit(parts["exp"], model.expression_names) + odd_light(parts["gamma"])
        self.unlike = unlikeness(self.pose, parts["gamma"])

    def hold(self, pose):
        """The frame of the track that each new pose (T, 6) is drawn from."""
        return self.learnt[hold(self.pose, pose * SEEN, cost_of=self.poor, unlike=self.unlike)]


def distance(angle, trans, other_angle, other_trans):
    """How unlike poses (..., 3) radians and (..., 3) dm are: 1 for 0.1 rad or 0.1 dm."""
    turn = np.linalg.norm((angle - other_angle) / RAD, axis=-1)
    return turn + np.linalg.norm((trans - other_trans) / DM, axis=-1)


def unfit(exp, names):
    """What a learning frame costs for its expression: exp (N, n_exp), names of the columns -> (N,), 0 for a usual face."""
    exp, total = np.asarray(exp, np.float64), np.zeros(len(exp))
    for name, scale in UNWANTED.items():
        if name in names:
            column = exp[:, list(names).index(name)]
            total += np.square((column - np.median(column)) / scale)
    return total


def hold(learn, new, change_cost=CHANGE_COST, cost_of=0.0, unlike=None):
    """A learning frame for every new pose: (N, 6) and (T, 6), radians and dm through one crop -> (T,) below N, changing seldom.

    cost_of (N,): more that a frame costs each time, such as `unfit`. unlike (N, N): what a change from one frame to another costs is
    multiplied by; a change is sought from the WAYS cheapest frames.
    """
    learn, new = (np.asarray(x, np.float64) for x in (learn, new))
    n, frames = len(learn), len(new)
    if not n or learn.shape[1:] != (6,) or new.shape[1:] != (6,):
        raise ValueError(f"poses {learn.shape} and {new.shape} came: (N, 6) and (T, 6) are needed")
    cost, came, every = np.zeros(n), np.zeros((frames, n), np.int32), np.arange(n)
    for start in range(0, frames, BLOCK):
        part = new[start : start + BLOCK, None]
        far = distance(learn[None, :, :3], learn[None, :, 3:], part[..., :3], part[..., 3:]) ** 2 + cost_of
        for t, here in enumerate(far, start):
            best, through = _changed(cost, change_cost, unlike)
            change = through < cost
            came[t] = np.where(change, best, every)
            cost = np.where(change, through, cost) + here
            cost -= cost.min()
    out = np.empty(frames, np.int64)
    if frames:
        out[-1] = k = int(cost.argmin())
        for t in range(frames - 1, 0, -1):
            k = int(came[t, k])
            out[t - 1] = k
    return out


def _changed(cost, change_cost, unlike):
    """From which frame a change to each would come, and its cost so far (N,)."""
    if unlike is None:
        best = int(cost.argmin())
        return best, cost[best] + change_cost
    ways = np.argpartition(cost, min(WAYS, len(cost)) - 1)[:WAYS]
    ahead = cost[ways, None] + change_cost * unlike[ways]
    best = ahead.argmin(0)
    return ways[best], ahead[best, np.arange(len(cost))]


def unlikeness(pose, light):
    """How much a change between learning frames shows, (N, N), about 1 for what is usual: poses (N, 6) as in `hold`, light (N, 27)."""
    far = distance(pose[:, None, :3], pose[:, None, 3:], pose[None, :, :3], pose[None, :, 3:])
    tint = _tint(light)
    return 2 * (far + np.linalg.norm(tint[:, None] - tint[None], axis=-1))


def odd_light(light):
    """What a learning frame costs in a light that is not the usual one, as of another day: (N, 27) -> (N,), 0 for the median."""
    tint = _tint(light)
    return np.square(tint - np.median(tint, 0)).sum(1)


def _tint(light):
    """Even part of red, green and blue light (N, 3), in LIGHT."""
    return np.asarray(light, np.float64).reshape(len(light), 3, -1)[..., 0] / LIGHT


def faded(indices, fade=FADE):
    """(T,) source of each frame -> [(first, second, share of the second)] of each frame: second is None where one source is enough.

    A change is spread over `fade` frames about it, less where changes lie closer.
    """
    indices, count = np.asarray(indices), len(indices)
    changes = np.flatnonzero(np.diff(indices)) + 1
    out = [(int(k), None, 0.0) for k in indices]
    for number, at in enumerate(changes):
        left = at - (changes[number - 1] if number else 0)
        right = (changes[number + 1] if number + 1 < len(changes) else count) - at
        reach = min(fade // 2, left // 2 if number else left, right // 2 if number + 1 < len(changes) else right)
        for t in range(at - reach, at + reach):
            x = (t - (at - reach) + 0.5) / (2 * reach)
            out[t] = int(indices[at - 1]), int(indices[at]), float(x * x * (3 - 2 * x))
    return out
