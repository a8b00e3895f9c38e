"""How well a style steers: a few sounds are spoken in styles of graded strength, on the way between two people, and of many people."""

import numpy as np

from models.style import Style
from models.style_metrics import content_leakage, interpolation_smoothness, monotonicity
from scripts.evaluation.codes import motion_code
from scripts.evaluation.rows import clip_seed, read_features

STRENGTHS = (0.0, 0.5, 1.0, 1.5)  # from the corpus mean through the speaker's own style and beyond
STEPS = 5  # from the speaker's style to another's
STYLES = 4  # people in whose styles every sound is spoken


def measure(bench):
    """{metric: value} for the row `generated`, {} where no sounds are asked for. All codes are weighed by the corpus deviations.

    Means over the sounds, of which `config.control` are taken, evenly over the clips.
    """
    cases = chosen(bench.cases, bench.config.control)
    if not cases:
        return {}
    weight = np.where(bench.style_std > 0, 1 / np.maximum(bench.style_std, 1e-9) ** 2, 0)
    speak = Speaker(bench)
    strength = [_strength(bench, case, speak, weight) for case in cases]
    smooth = [_interpolation(bench, case, speak, weight) for case in cases if case.other]
    values = {
        "strength_rank": np.mean([s["rank"] for s in strength]),
        "strength_gain": np.mean([s["gain"] for s in strength]),
    }
    if smooth:
        values |= {
            name: np.mean([s[part] for s in smooth])
            for name, part in (("blend_bend", "bend"), ("blend_progress", "progress"))
        }
    people = chosen(list({case.speaker: case for case in cases}.values()), STYLES)
    leakage = content_leakage(
        [[speak(case, bench.codes.average(person.style)) for case in cases] for person in people], weight
    )
    values |= {"content_share": leakage["sound_share"], "style_share": leakage["style_share"]}
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def chosen(things, count):
    """`count` of a list, evenly spread."""
    if not count or not things:
        return []
    return [things[k] for k in np.unique(np.linspace(0, len(things) - 1, min(count, len(things))).round().astype(int))]


class Speaker:
    """Codes (S,) of the sounds of cases spoken in any style; with one seed, so that nothing but the style differs."""

    def __init__(self, bench):
        self.bench, self._features = bench, {}

    def __call__(self, case, style):
        bench = self.bench
        if case.name not in self._features:
            self._features[case.name] = read_features(bench.store, case.window)
        seed = clip_seed(bench.config.seeds[0], case.name)
        return motion_code(bench.method.generate(self._features[case.name], style, len(case.window), seed=seed))


def _strength(bench, case, speak, weight):
    """{"rank": monotonicity, "gain": slope} of how far the motion goes along the way from the mean style to the speaker's own."""
    own, mean = bench.codes.average(case.style), bench.method.mean_style
    codes = np.array([speak(case, own.scaled(strength, mean)) for strength in STRENGTHS])
    way = own.vector() - mean.vector()
    gone = (codes - codes[0]) @ (weight * way) / max((weight * way**2).sum(), 1e-12)
    return {"rank": monotonicity(STRENGTHS, gone), "gain": np.polyfit(STRENGTHS, gone, 1)[0]}


def _interpolation(bench, case, speak, weight):
    """`interpolation_smoothness` of the motion on the way from the speaker's style to another's."""
    own, other = bench.codes.average(case.style), bench.codes.average(case.other)
    codes = [speak(case, Style.interpolate(own, other, t)) for t in np.linspace(0, 1, STEPS)]
    return interpolation_smoothness(codes, weight)
