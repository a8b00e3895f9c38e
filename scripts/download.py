"""Fetch the assets listed in data/assets.json from their pip wheels, check every hash, and put them in data/assets.

    python -m scripts.download                    what is missing or damaged
    python -m scripts.download --verify           the same, but every present file is hashed again first
    python -m scripts.download --list             what there is, from where, under which licence
    python -m scripts.download --wheels FOLDER    take the wheels from a folder instead of the network

A file appears under its name only when it is whole: it is made in a folder aside and renamed at the end.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from deep_3drecon.assets import (
    REPOSITORY,
    AssetError,
    assets_dir,
    find_asset,
    find_damage,
    find_staleness,
    hash_file,
    read_manifest,
)

PIP_SECONDS = 600  # patience with one wheel: 48 MB at 80 kB/s


def fetch(asset, wheels=None, say=print):
    """Bring one `member` or `baked` asset into the assets folder, replacing what is there.

    wheels: folder that holds the wheel, or None to let pip download it. Raises AssetError and leaves the assets folder
    as it was when anything fails.
    """
    target = asset.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            folder = Path(folder)
            wheel = _find_wheel(asset, Path(wheels)) if wheels else _download_wheel(asset, folder, say)
            _check_hash(asset, wheel, asset.wheel_sha256)
            members = _unpack(asset, wheel, folder / "members")
            if asset.kind == "member":
                _check_hash(asset, members[0], asset.sha256)
                os.replace(members[0], target)
            else:
                _bake(asset, folder / "members" / asset.data_root, folder / target.name, say)
    except OSError as error:
        raise AssetError(
            f"{target}: could not be written: {error.strerror or error}. {_free_space(target.parent)}: make room, or "
            "let the environment variable IDIOLECT_ASSETS name a folder that can be written"
        ) from error


def _free_space(folder):
    """Free space at `folder` or the nearest parent that exists, in words."""
    while not folder.is_dir():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free there"


def _find_wheel(asset, folder):
    """The asset's wheel in a folder of the user's."""
    name, _, version = asset.requirement.partition("==")
    found = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not found:
        raise AssetError(
            f"{folder}: no wheel of {asset.requirement}: get it with pip download --no-deps {asset.requirement}"
        )
    return found[0]


def _download_wheel(asset, folder, say):
    """Let pip download the asset's wheel into `folder`; returns its path."""
    say(f"{asset.name}: {asset.requirement} ({asset.wheel_bytes / 1e6:.1f} MB) by pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), asset.requirement]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise AssetError(
            f"{asset.name}: pip took over {PIP_SECONDS} s for {asset.requirement}: try again. By hand: {asset.by_hand}"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = [line for line in result.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        raise AssetError(
            f"{asset.name}: pip could not download {asset.requirement}: {reason[-1]}\n"
            f"  Is the network up? By hand: {asset.by_hand}"
        )
    return wheels[0]


def _check_hash(asset, path, expected):
    """Refuse a file whose sha256 is not the manifest's."""
    digest = hash_file(path)
    if digest != expected:
        raise AssetError(
            f"{asset.name}: {path.name} has sha256 {digest}, data/assets.json needs {expected}: "
            "it was changed on its way or at its source, and is not used"
        )


def _unpack(asset, wheel, folder):
    """Extract the asset's members below `folder`, return their paths; a trailing slash in `members` means a folder."""
    folders = tuple(member for member in asset.members if member.endswith("/"))
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name in asset.members or name.startswith(folders)]
        if not names:
            raise AssetError(f"{asset.name}: {wheel.name} does not hold {', '.join(asset.members)}")
        return [Path(archive.extract(name, folder)) for name in names]


def _bake(asset, data, part, say):
    """Run the asset's recipe on unpacked data, then rename the result into place and write the record beside it."""
    say(f"{asset.name}: baking")
    recipe = importlib.import_module(asset.recipe.removesuffix(".py").replace("/", "."))
    try:
        content_hash = recipe.bake(data, part)
    except RuntimeError as error:
        raise AssetError(f"{asset.name}: {asset.recipe} failed: {error}") from error
    record = {
        "wheel_sha256": asset.wheel_sha256,
        "recipe_sha256": hash_file(REPOSITORY / asset.recipe),
        "sha256": hash_file(part),
        "bytes": part.stat().st_size,
        "content_hash": content_hash,
    }
    record_part = part.with_name("record.json")
    record_part.write_text(json.dumps(record, indent=2) + "\n")
    # the file first: if the second rename is cut off, the old record disagrees with the file and it is baked again
    os.replace(part, asset.path)
    os.replace(record_part, asset.record_path)


def bring(assets, verify=False, force=False, wheels=None, say=print):
    """Fetch those of `assets` that need it. Returns the errors as texts; one failure does not stop the rest."""
    errors = []
    for asset in assets:
        trouble = find_damage(asset, hashed=verify) or find_staleness(asset)
        if asset.kind in ("package", "user"):
            if trouble:
                errors.append(f"{asset.name}: {trouble}: {asset.remedy}")
            continue
        if not (trouble or force):
            say(f"{asset.name}: present{' and whole' if verify else ''}")
            continue
        try:
            say(f"{asset.name}: {trouble or 'fetched again as asked'}")
            fetch(asset, wheels, say)
            say(f"{asset.name}: {asset.path} ({asset.path.stat().st_size / 1e6:.1f} MB)")
        except AssetError as error:
            errors.append(str(error))
    return errors


def describe(asset):
    """One asset in five lines."""
    state = find_damage(asset) or find_staleness(asset) or "present"
    return "\n".join(
        [
            f"{asset.name}{' (optional)' if asset.optional else ''}: {state}",
            f"  {asset.what}",
            f"  file     {asset.path or asset.file}",
            f"  source   {asset.by_hand if asset.kind == 'user' else f'{asset.requirement}, wheel sha256 {asset.wheel_sha256}'}",
            f"  licence  {asset.licence}",
        ]
    )


def main():
    parser = argparse.ArgumentParser(
        prog="python -m scripts.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="assets to fetch; without names all that are not optional")
    parser.add_argument("--verify", action="store_true", help="hash present files again; a damaged one is fetched anew")
    parser.add_argument("--force", action="store_true", help="fetch even what is present")
    parser.add_argument("--list", action="store_true", help="print what there is, fetch nothing")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="take wheels from here, not by pip")
    args = parser.parse_args()
    try:
        assets = [find_asset(name) for name in args.names]
    except AssetError as error:
        parser.error(str(error))
    if args.list:
        print("\n\n".join(describe(asset) for asset in assets or read_manifest().values()))
        return 0
    assets = assets or [asset for asset in read_manifest().values() if not asset.optional]
    print(f"assets in {assets_dir()}")
    errors = bring(assets, args.verify, args.force, args.wheels)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
