"""Styles of the speakers of a store, and a livelier and a calmer version of their mean, as JSON files that --style_clip takes by name.

    python -m scripts.make_styles --lmdb data/lmdb/grid [--made data/lmdb/synthetic] --output data/checkpoints/default/styles

A speaker's style is the mean over the clips of the train split. `lively` and `restrained` are the mean of all speakers with every
spread multiplied by 1.4 and 0.6: the same resting face, larger and smaller movements. Speakers of read corpora keep their heads
still, so those two get the head motion of people in conversation (HEAD_SPREAD), multiplied alike. --made, a store of the made-up
corpus, adds a style for each mood, and its speakers of the broadest face beside the stillest head, and the other way round.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process.outputs import make_folder
from data_process.schema import StoreError
from data_process.store import Store
from deep_3drecon.face_model import load_face_model
from models.style import Style, StyleError

STRENGTHS = {"lively": 1.4, "restrained": 0.6}
# spread of quaternion (half the angle in radians: pitch 2.3, yaw 2.6, roll 1.4 degrees) and translation (dm) in conversation
HEAD_SPREAD = np.array([0.001, 0.020, 0.023, 0.012, 0.03, 0.03, 0.04], np.float32)
# per frame at 25 fps; people in conversation turn slowly: spread over change is about 6 in pitch, 8 in yaw, 10 in roll
HEAD_CHANGE = HEAD_SPREAD / np.array([6, 6, 8, 10, 5, 5, 5], np.float32)


def means(lmdb, key):
    """{what a training clip's facts say of `key`, such as "speaker": (mean Style of these clips, how many they are)}."""
    store, found = Store(lmdb), {}
    lids = load_face_model(store.meta["face_model"]).index("eyeBlinkLeft", "eyeBlinkRight")
    for k, clip in enumerate(tqdm(store.clips("train"), unit="clip", disable=None)):
        style = Style.from_statistics(store.track("train", k), clip["name"], blink_columns=lids)
        found.setdefault(clip[key], []).append(style)
    store.close()
    return {name: (Style.average(styles), len(styles)) for name, styles in found.items()}


def speaker_styles(lmdb):
    """{speaker: mean Style of the speaker's training clips}, and the two made of the mean of all."""
    found = means(lmdb, "speaker").items()
    styles = {name: replace(style, source=f"mean of {n} clips of {name}") for name, (style, n) in found}
    mean = Style.average(styles.values())
    mean.parts |= {"std_pose": HEAD_SPREAD, "std_pose_change": HEAD_CHANGE}
    for name, strength in STRENGTHS.items():
        styles[name] = replace(mean.scaled(strength), source=f"mean speaker in conversation, spreads x {strength}")
    return styles


def made_styles(lmdb):
    """{mood, "broad_face" or "busy_head": Style} of the made-up corpus, from its training clips."""
    moods, speakers = (
        {
            name: replace(style, source=f"made-up speech: mean of {n} clips of {kind} {name}")
            for name, (style, n) in found.items()
        }
        for kind, found in (("mood", means(lmdb, "emotion")), ("speaker", means(lmdb, "speaker")))
    )
    speakers = list(speakers.values())
    size = {part: np.array([np.linalg.norm(s.parts[part]) for s in speakers]) for part in ("std_exp", "std_pose")}
    balance = np.log(size["std_exp"]) - np.log(size["std_pose"])
    return moods | {"broad_face": speakers[balance.argmax()], "busy_head": speakers[balance.argmin()]}


def main(argv=None):
    """Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_styles", description=__doc__.split("\n")[0])
    parser.add_argument("--lmdb", required=True, type=Path, help="store whose training speakers are taken")
    parser.add_argument("--made", type=Path, help="store of data_process.synthetic")
    parser.add_argument("--output", required=True, type=Path, help="folder for the files")
    args = parser.parse_args(argv)
    try:
        make_folder(args.output)
        styles = speaker_styles(args.lmdb) | (made_styles(args.made) if args.made else {})
    except (StoreError, StyleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, style in styles.items():
        style.save(args.output / f"{name}.json")
        print(f"{args.output / name}.json: {style.source}, {60 * style.blinks.rate_hz:.0f} blinks a minute")
    return 0


if __name__ == "__main__":
    sys.exit(main())
