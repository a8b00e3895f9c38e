"""Styles of the speakers of a store, and a livelier and a calmer version of their mean, as JSON files that --style_clip takes by name.

    python -m scripts.make_styles --lmdb data/lmdb/grid [--made data/lmdb/synthetic] --output data/checkpoints/default/styles

A speaker's style is the mean over the clips of the train split. `lively` and `restrained` are the mean of all speakers with every
spread multiplied by 1.4 and 0.6: the same resting face, larger and smaller movements. Speakers of read corpora keep their heads
still, so those two get the head motion of people in conversation (HEAD_SPREAD), multiplied alike. --made, a store of the made-up
corpus, adds a style for each mood, and its speakers of the broadest face beside the stillest head, and the other way round.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process.store import Store
from deep_3drecon.face_model import load_face_model
from models.style import Style

STRENGTHS = {"lively": 1.4, "restrained": 0.6}
# spread of quaternion (half the angle in radians: pitch 2.3, yaw 2.6, roll 1.4 degrees) and translation (dm) in conversation
HEAD_SPREAD = np.array([0.001, 0.020, 0.023, 0.012, 0.03, 0.03, 0.04], np.float32)
# per frame at 25 fps; people in conversation turn slowly: spread over change is about 6 in pitch, 8 in yaw, 10 in roll
HEAD_CHANGE = HEAD_SPREAD / np.array([6, 6, 8, 10, 5, 5, 5], np.float32)


def speaker_styles(lmdb):
    """{speaker: mean Style of the speaker's training clips}."""
    store = Store(lmdb)
    lids = load_face_model(store.meta["face_model"]).index("eyeBlinkLeft", "eyeBlinkRight")
    styles = {}
    for k, clip in enumerate(tqdm(store.clips("train"), unit="clip", disable=None)):
        track = store.track("train", k)
        styles.setdefault(clip["speaker"], []).append(Style.from_statistics(track, clip["name"], blink_columns=lids))
    store.close()
    return {
        speaker: replace(Style.average(some), source=f"mean of {len(some)} clips of {speaker}")
        for speaker, some in styles.items()
    }


def made_styles(lmdb):
    """{mood, "broad_face" or "busy_head": Style} of the made-up corpus, from its training clips."""
    store, found = Store(lmdb), {}
    lids = load_face_model(store.meta["face_model"]).index("eyeBlinkLeft", "eyeBlinkRight")
    for k, clip in enumerate(tqdm(store.clips("train"), unit="clip", disable=None)):
        style = Style.from_statistics(store.track("train", k), clip["name"], blink_columns=lids)
        for name in (("mood", clip["emotion"]), ("speaker", clip["speaker"])):
            found.setdefault(name, []).append(style)
    store.close()
    means = {}
    for (kind, name), some in found.items():
        source = f"made-up speech: mean of {len(some)} clips of {kind} {name}"
        means[kind, name] = replace(Style.average(some), source=source)
    styles = {name: style for (kind, name), style in means.items() if kind == "mood"}
    speakers = [style for (kind, _), style in means.items() if kind == "speaker"]
    size = {part: np.array([np.linalg.norm(s.parts[part]) for s in speakers]) for part in ("std_exp", "std_pose")}
    balance = np.log(size["std_exp"]) - np.log(size["std_pose"])
    return styles | {"broad_face": speakers[balance.argmax()], "busy_head": speakers[balance.argmin()]}


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.make_styles", description=__doc__.split("\n")[0])
    parser.add_argument("--lmdb", required=True, type=Path)
    parser.add_argument("--made", type=Path, help="store of data_process.synthetic")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    styles = speaker_styles(args.lmdb)
    mean = Style.average(styles.values())
    mean.parts |= {"std_pose": HEAD_SPREAD, "std_pose_change": HEAD_CHANGE}
    for name, strength in STRENGTHS.items():
        styles[name] = replace(mean.scaled(strength), source=f"mean speaker in conversation, spreads x {strength}")
    styles |= made_styles(args.made) if args.made else {}
    for name, style in styles.items():
        style.save(args.output / f"{name}.json")
        print(f"{args.output / name}.json: {style.source}, {60 * style.blinks.rate_hz:.0f} blinks a minute")


if __name__ == "__main__":
    main()
