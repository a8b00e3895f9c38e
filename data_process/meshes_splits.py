"""Who trains, validates and tests in the papers' data sets, in the order of the published one-hot codes, with checksums.

VOCASET: 8, 2, 2 subjects; validation and test take sentences 21 to 40. BIWI: six subjects train on e01-e32, are validated on
e33-e36 and tested on e37-e40 (Test-A); eight others are Test-B. 3D-MEAD: by speaker. No clip is in two splits.
"""

import hashlib
import re

VOCASET = {
    "train": (
        "FaceTalk_170728_03272_TA", "FaceTalk_170904_00128_TA", "FaceTalk_170725_00137_TA", "FaceTalk_170915_00223_TA",
        "FaceTalk_170811_03274_TA", "FaceTalk_170913_03279_TA", "FaceTalk_170904_03276_TA", "FaceTalk_170912_03278_TA",
    ),
    "val": ("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
    "test": ("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
}  # fmt: skip
VOCASET_SENTENCES = {"train": range(1, 41), "val": range(21, 41), "test": range(21, 41)}
VOCASET_COUNTS = {"train": 320, "val": 40, "test": 40}  # as listed; the recordings lack a few, 314 / 40 / 39 are found
BIWI_SEEN = ("F2", "F3", "F4", "M3", "M4", "M5")
BIWI_UNSEEN = ("F1", "F5", "F6", "F7", "F8", "M1", "M2", "M6")
BIWI_COUNTS = {"train": 192, "val": 24, "test_seen": 24, "test": 32}  # test_seen is Test-A, test is Test-B
BIWI_TEST_A_FRAMES = 3879  # of CodeTalker's arrays: the checksum of its users
MEAD_TRAIN = tuple(
    f"M{n:03d}" for n in (3, 5, 7, 9, 11, 12, 13, 19, *range(22, 35))
)  # up to M034 of the speakers that were reconstructed
MEAD = {"train": MEAD_TRAIN, "val": ("M035", "M039"), "test": ("M037", "M040")}


def vocaset_split(subject, sentence):
    """Split of a VOCASET clip, or None where no paper uses it; sentence: 1 to 40."""
    for split, subjects in VOCASET.items():
        if subject in subjects:
            return split if sentence in VOCASET_SENTENCES[split] else None
    return None


def biwi_split(subject, sentence):
    """Split of a BIWI clip (emotional takes e01 to e40), or None."""
    if subject in BIWI_SEEN:
        return "train" if sentence <= 32 else "val" if sentence <= 36 else "test_seen"
    return "test" if subject in BIWI_UNSEEN and sentence >= 37 else None


def mead_split(subject):
    """Split of a 3D-MEAD speaker, or None."""
    return next((split for split, subjects in MEAD.items() if subject in subjects), None)


def clip_list(data_set):
    """Sorted "split subject sentence" lines of a data set as listed by the papers."""
    if data_set == "vocaset":
        clips = [
            (split, s, f"sentence{n:02d}")
            for split, who in VOCASET.items()
            for s in who
            for n in VOCASET_SENTENCES[split]
        ]
    else:
        every = [(s, n) for s in (*BIWI_SEEN, *BIWI_UNSEEN) for n in range(1, 41)]
        clips = [(split, s, f"e{n:02d}") for s, n in every if (split := biwi_split(s, n))]
    return sorted(" ".join(clip) for clip in clips)


def checksum(data_set):
    """First 16 digits of the SHA-256 of a split list."""
    return hashlib.sha256("\n".join(clip_list(data_set)).encode()).hexdigest()[:16]


def parse_name(name):
    """ "FaceTalk_170728_03272_TA_sentence01", "F2_e37" or "M003_012" -> (subject, number), or None."""
    match = re.fullmatch(r"(.+?)_(?:sentence|e)?(\d{1,3})", name)
    return (match[1], int(match[2])) if match else None


def compare(found, wanted):
    """Lines that say where counts of clips {split: n} are not those of the list."""
    return [
        f"{split}: {found.get(split, 0)} of {n} listed clips are here"
        for split, n in wanted.items()
        if found.get(split, 0) != n
    ]
