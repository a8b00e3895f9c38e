"""What is on disk: metrics.jsonl, one line a (clip, row, seed), and settings.yaml, which says what the lines were made with.

A finished line is never computed again. Lines of other settings, another checkpoint or another store are refused.
"""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

from omegaconf import OmegaConf

from data_process.outputs import make_folder, write_aside
from scripts.evaluation.sources import ProtocolError

NO_INFLUENCE = ("output", "report", "threads", "device")  # settings that change no line


def jsonable(value):
    """Numbers for JSON, which knows no NaN: None there."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


class Lines:
    """metrics.jsonl, kept open for adding. A last line cut off by a crash is dropped."""

    def __init__(self, folder):
        self.path = Path(folder, "metrics.jsonl")
        self.lines = read(self.path) if self.path.is_file() else []
        self._keys = {key(line) for line in self.lines}
        write_aside(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines))

    def has(self, clip, row, seed):
        """Whether this line is done."""
        return (clip, row, seed) in self._keys

    def add(self, clip, row, seed, **values):
        """Append one line at once."""
        line = jsonable({"clip": clip, "row": row, "seed": seed, **values})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.lines.append(line)
        self._keys.add(key(line))

    def replace(self, row_is, new):
        """Drop the lines for which `row_is` holds and add others: for values of whole sets, which more clips change."""
        self.lines = [line for line in self.lines if not row_is(line)] + [jsonable(line) for line in new]
        self._keys = {key(line) for line in self.lines}
        write_aside(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines))


def key(line):
    """(clip, row, seed) of a line."""
    return line["clip"], line["row"], line["seed"]


def read(path):
    """Lines of a metrics.jsonl as dicts."""
    lines, texts = [], Path(path).read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):
                raise ProtocolError(f"{path}: line {number} is not JSON ({error}): remove that line") from error
    return lines


def settings_hash(config, facts):
    """Twelve hexadecimal digits of everything that the lines depend on: settings and the `facts` of files."""
    values = {k: v for k, v in dataclasses.asdict(config).items() if k not in NO_INFLUENCE}
    return short_hash({"settings": values, "facts": facts})


def short_hash(value):
    """Twelve hexadecimal digits of anything JSON holds."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_hash(path):
    """SHA-256 of a file, 16 digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def open_folder(folder, config, facts, about):
    """Make or continue an output folder; writes settings.yaml and returns its content.

    facts: what else the lines depend on (hashes of checkpoint, store, encoding). about: for people (commit, versions, counts).
    """
    folder = Path(folder)
    path = folder / "settings.yaml"
    wanted = settings_hash(config, facts)
    content = {"hash": wanted, "facts": facts, "about": about, "settings": dataclasses.asdict(config)}
    if path.is_file():
        before = OmegaConf.to_container(OmegaConf.load(path))
        if before["hash"] != wanted:
            old, new = before["settings"] | before["facts"], content["settings"] | content["facts"]
            changed = sorted(k for k in old | new if k not in NO_INFLUENCE and old.get(k) != new.get(k))
            raise ProtocolError(
                f"{folder}: holds an evaluation with other {', '.join(changed) or 'settings'}: "
                "give another output folder, or delete this one"
            )
    make_folder(folder)
    write_aside(path, OmegaConf.to_yaml(OmegaConf.create(content)))
    return content
