"""Places that results are written to: refused before the work where nothing can be written, and files that appear whole."""

import os
from pathlib import Path


def make_folder(path):
    """The folder as a Path, made where it is missing; OSError in words where it cannot be."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OSError(f"{path}: is a file, the name of a folder is needed") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be made ({error.strerror}): name a folder that you may write to") from error
    return path


def writable_file(path):
    """The path of a file that will be written, as a Path, its folder made; OSError in words where it cannot be."""
    path = Path(path)
    if path.is_dir():
        raise OSError(f"{path}: is a folder, the name of a file is needed")
    make_folder(path.parent)
    aside = path.with_name(path.name + ".part")
    try:
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}): name a place that you may write to") from error
    return path


def write_aside(path, text):
    """Write a text file aside and rename it."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
