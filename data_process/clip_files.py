"""The files of one clip in a folder of clips: put there as a whole, told from files of others, removed.

<name>.mp4, .wav, .landmarks.npz, .coeff.npz, as far as there are, and <name>.json, which is written last: where it is, the
clip is whole. The json says in "source" what the clip was made of.
"""

import contextlib
import json
import os
from pathlib import Path

PART_PREFIX = ".part-"  # folders of work in progress
SUFFIXES = (".mp4", ".wav", ".landmarks.npz", ".coeff.npz")
CLAIM = ".json.part"


class ClipFilesError(ValueError):
    """A folder in which no clips can be written."""


def place_clip(folder, output, name):
    """Move the finished files of a clip to where they belong.

    Until all are there the json stands as a claim, <name>.json.part, so that files of a run that was killed in between can
    be told from files of somebody else.
    """
    claim = Path(output, name + CLAIM)
    os.replace(Path(folder, name + ".json"), claim)
    for suffix in SUFFIXES:
        if Path(folder, name + suffix).is_file():
            os.replace(Path(folder, name + suffix), Path(output, name + suffix))
    os.replace(claim, Path(output, name + ".json"))


def owner_of(output, name):
    """What the clip of this name was made of; "" where there is no such file, None for files that are no clip of ours."""
    for suffix in (".json", CLAIM):
        path = Path(output, name + suffix)
        if path.is_file():
            try:
                return json.loads(path.read_text())["source"]
            except (ValueError, LookupError, TypeError):
                return None
    return None if any(Path(output, name + suffix).exists() for suffix in SUFFIXES) else ""


def is_foreign(output, name, source):
    """Are files of this name there that are not of `source`? A video that was moved since counts as the same."""
    owner = owner_of(output, name)
    return owner is None or (owner != "" and is_other(owner, source))


def is_other(source, other):
    """Are these two different files, both there?"""
    a, b = Path(source), Path(other)
    return str(a) != str(b) and a.exists() and a.resolve() != b.resolve()


def remove_clip(folder, name):
    """Delete the files of one clip of ours."""
    for suffix in (".json", CLAIM, *SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(Path(folder, name + suffix))


def check_apart(inputs, output):
    """Refuse an output folder inside a folder that is searched for videos: what is written there would be found next time."""
    target = Path(output).resolve()
    for given in map(Path, inputs):
        if given.is_dir() and (target == given.resolve() or given.resolve() in target.parents):
            raise ClipFilesError(
                f"{output}: lies within the input {given}, which is searched for videos: give another folder"
            )
