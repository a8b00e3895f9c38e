"""How much of the score of our head motion is owed to constants that were chosen on the judged speakers?

The constants of `models.behaviour`, `headpose_habit` and `headpose_sound` that no theory gives are drawn anew, many times, each within
a factor of three of its value. Then the best draw is chosen on some speakers and judged on the others.
"""

import contextlib

import numpy as np

from models import behaviour, headpose_habit, headpose_sound
from scripts.evaluation.head_motion import ROWS, behaviours, compare, make, measure

CHOSEN = {
    headpose_habit: ("JITTER", "COHERENCE_S", "PARTED_HZ", "LAST_HZ", "PLACE_SHARE", "PLACE_HZ", "BURST_S", "REACH_S", "BEND_S"),
    behaviour: ("BANDS_S", "RIDGE", "SHRINK_CORRELATION", "GROWTH", "TYPICAL_LOUDNESS", "TYPICAL_BEATS", "BEATS_OF_PRIOR",
                "SHARE_PER_BEAT_GAIN", "EVEN_LOG_SPEED"),
    headpose_sound: ("LEAD_S",),
}  # fmt: skip
SHARES = ("PLACE_SHARE", "SHRINK_CORRELATION")  # of at most 1
FACTOR = 3.0


@contextlib.contextmanager
def drawn_constants(seed):
    """The constants drawn anew; None: as they are."""
    kept = {(module, name): getattr(module, name) for module, names in CHOSEN.items() for name in names}
    rng = np.random.default_rng(seed)
    try:
        if seed is not None:
            for (module, name), value in kept.items():
                new = value * FACTOR ** rng.uniform(-1, 1)
                setattr(module, name, min(new, 1.0) if name in SHARES else new)
        yield
    finally:
        for (module, name), value in kept.items():
            setattr(module, name, value)


def redrawn_lines(cases, draws, seeds):
    """Lines of `head_motion.measure` of all rows with the constants as they are, and of ours with each draw, number in "draw" from 1."""
    lines = [line | {"draw": 0} for line in measure(cases, seeds=seeds) if line["row"] in ROWS]
    for draw in range(1, draws + 1):
        with drawn_constants(draw):
            habits = behaviours(cases)
            for case in cases:
                for seed in range(seeds):
                    found = [
                        compare(make("ours", case, held, habits, None, seed), held, case.learn.curves)
                        for held in case.held_out
                    ]
                    values = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
                    lines.append(
                        {"case": case.name, "speaker": case.speaker, "row": "ours", "seed": seed, "draw": draw} | values
                    )
    return lines


def judged_on_others(places, speakers, left_out):
    """Ranks (cases,) of the draw that is best on the speakers left in, for the cases of those left out.

    places (draws, cases): mean rank of ours; speakers (cases,); left_out: groups of speakers, each of which is judged in turn.
    """
    out = np.full(len(speakers), np.nan)
    for group in left_out:
        judged = np.isin(speakers, group)
        out[judged] = places[places[:, ~judged].mean(1).argmin(), judged]
    return out
