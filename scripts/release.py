"""Pack a trained checkpoint for others: weights, settings, statistics, styles, model card, expected metrics, and a hash of every file.

    python -m scripts.release --checkpoint data/runs/default --metrics data/runs/default/test/summary.json \\
        --card data/checkpoints/default/README.md --styles data/checkpoints/default/styles --output data/checkpoints/default
    python -m scripts.release --check data/checkpoints/default

--metrics is the summary.json that scripts.evaluate wrote of these very weights, its settings.yaml beside it; numbers come from there
and are not typed. The folder gets release.json last; inference.py compares weights, settings and styles with it whenever it loads the
folder. --upload USER/NAME sends the folder to the
Hugging Face hub, as whom `hf auth login` made you; nothing is sent without it.
"""

import argparse
import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from deep_3drecon.assets import hash_file
from models import checkpoint
from models.checkpoint import RELEASE, RELEASE_FORMAT, CheckpointError, check_release
from models.style import Style, StyleError

PACKAGES = ("torch", "numpy", "safetensors")
CARD = "README.md"
ROW = "generated"  # of the evaluation: the row whose numbers are expected


class ReleaseError(ValueError):
    """Something that is missing from a release, or does not belong to it."""


def read_metrics(path, weights):
    """What to expect, from the summary.json of an evaluation of these weights (their sha256)."""
    try:
        summary = json.loads(Path(path).read_text())
        run = yaml.safe_load(Path(path).with_name("settings.yaml").read_text())
        facts, rows, counts = run["facts"], summary["rows"], summary["counts"]
        measured = {
            name: {k: found[k] for k in ("mean", "low", "high", "clips")} | unit_of(summary, name)
            for name, found in rows[ROW].items()
        }
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ReleaseError(f"{path}: no summary.json of scripts.evaluate with a row {ROW!r} ({error!r})") from error
    if not weights.startswith(facts["checkpoint_weights"]):
        raise ReleaseError(
            f"{path}: measures weights {facts['checkpoint_weights']}, these are {weights[:16]}: evaluate them first"
        )
    return {
        "metrics": measured,
        "frames": counts[ROW]["frames"],
        "skipped_frames": counts[ROW]["skipped_frames"],
        "store": facts["store"],
        "settings": run["hash"],
        "code": run["about"]["code"],
    }


def unit_of(summary, name):
    """Label, unit and direction of a metric."""
    about = summary.get("units", {}).get(name, {})
    return {key: about[key] for key in ("label", "unit", "better") if key in about}


def card_text(content, expected, styles):
    """A model card for a checkpoint that came without one."""
    lines = [f"# Model card: {content['method']}, preset {content['settings'].get('preset', '')}", ""]
    lines += [f"Trained on {content.get('data', 'unknown data')}, iteration {content.get('iteration', '?')}, code "]
    lines[-1] += f"{content['git_commit'][:12]}, face model {content['face_model']}."
    if styles:
        lines += ["", "Styles: " + ", ".join(f"`{name}`" for name in styles) + "."]
    if expected:
        lines += [
            "",
            f"Measured by scripts.evaluate, {expected['frames']} frames:",
            "",
            "| metric | better | value |",
            "|---|---|---|",
        ]
        for name, found in expected["metrics"].items():
            label = f"{found.get('label', name)}{', ' if found.get('unit') else ''}{found.get('unit', '')}"
            lines.append(f"| {label} | {found.get('better', '')} | {found['mean']:.4g} |")
    return "\n".join([*lines, ""])


def put(source, target):
    """Copy a file aside, then rename; a file onto itself stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    os.replace(part, target)


def released_content(content):
    """The checkpoint's JSON without places of the machine it was trained on."""
    data = content.get("data")
    return content | ({"data": Path(data).name} if isinstance(data, str) and Path(data).is_absolute() else {})


def pack(source, output, metrics=None, card=None, styles=None):
    """Fill `output` from the checkpoint folder `source`; returns what release.json says."""
    source, output = Path(source), Path(output)
    content = checkpoint.read(source)
    weights = checkpoint.stem(source).with_suffix(".safetensors")
    if not weights.is_file():
        raise ReleaseError(f"{weights}: absent: give the folder of a trained run")
    expected = read_metrics(metrics, hash_file(weights)) if metrics else None
    styles = sorted(Path(styles).glob("*.json")) if styles else sorted((source / "styles").glob("*.json"))
    for path in styles:
        if Style.load(path).face_model != content["face_model"]:
            raise ReleaseError(f"{path}: a style of face model {Style.load(path).face_model}, not of this checkpoint's")
    files = ["best.safetensors", "best.json", CARD, *(f"styles/{path.name}" for path in styles)]
    (output / RELEASE).unlink(missing_ok=True)  # a half-written release is none
    put(weights, output / "best.safetensors")
    write(output / "best.json", json.dumps(released_content(content), indent=1))
    for path in styles:
        put(path, output / "styles" / path.name)
    if card:
        put(card, output / CARD)
    elif not (output / CARD).is_file():
        write(output / CARD, card_text(content, expected, [path.stem for path in styles]))
    release = {
        "format": RELEASE_FORMAT,
        "method": content["method"],
        "face_model": content["face_model"],
        "face_model_hash": content["face_model_hash"],
        "trained_by": content["git_commit"],
        "packed_by": checkpoint.git_commit(),
        "packages": {name: installed(name) for name in PACKAGES},
        "expected": expected,
        "files": {n: {"sha256": hash_file(output / n), "bytes": (output / n).stat().st_size} for n in files},
    }
    write(output / RELEASE, json.dumps(release, indent=1) + "\n")
    return release


def write(path, text):
    """A text file, aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def installed(name):
    """Version of a package, without the build of the machine."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "absent"


def upload(folder, repository):
    """Send the released files of a folder to the Hugging Face hub; returns where they are."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ReleaseError("--upload needs huggingface_hub: pip install huggingface_hub") from error
    release, api = check_release(folder), HfApi()
    api.create_repo(repository, exist_ok=True)
    names = [*release["files"], RELEASE]
    return api.upload_folder(folder_path=str(folder), repo_id=repository, allow_patterns=names)


def main(argv=None):
    """Exit status: 0 packed or whole, 1 refused with a reason."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release", description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="folder with best.safetensors and best.json")
    parser.add_argument("--metrics", type=Path, help="summary.json of scripts.evaluate")
    parser.add_argument("--card", type=Path, help="model card; without it the one in --output stays, or one is written")
    parser.add_argument(
        "--styles", type=Path, help="folder of style files (default: styles in the checkpoint's folder)"
    )
    parser.add_argument("--output", type=Path, help="folder of the release")
    parser.add_argument("--upload", metavar="USER/NAME", help="send it to the Hugging Face hub")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="only compare a release with its hashes")
    args = parser.parse_args(argv)
    if not args.check and not (args.checkpoint and args.output):
        parser.error("give --checkpoint and --output, or --check FOLDER")
    try:
        if args.check:
            release = check_release(args.check)
            if release is None:
                raise ReleaseError(f"{args.check}: no {RELEASE} here")
        else:
            release = pack(args.checkpoint, args.output, args.metrics, args.card, args.styles)
        size = sum(about["bytes"] for about in release["files"].values())
        print(f"{args.check or args.output}: {len(release['files'])} files, {size / 1e6:.1f} MB, all as in {RELEASE}")
        if args.upload:
            print(upload(args.check or args.output, args.upload))
    except (CheckpointError, ReleaseError, StyleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
