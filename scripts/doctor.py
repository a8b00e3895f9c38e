"""Say what is present, what is missing, and what to do about it.

    python -m scripts.doctor            a table
    python -m scripts.doctor --json     the same as JSON, for a report or a script

Exit status 1 when something required is missing, damaged or outdated, else 0. Every asset is hashed.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from deep_3drecon.assets import REPOSITORY, AssetError, assets_dir, find_damage, find_staleness, read_manifest

# Import names that do not follow from the name on the package index by writing _ for -
IMPORT_NAMES = {"opencv-python-headless": "cv2", "scikit-image": "skimage", "dlib-bin": "dlib"}
OPTIONAL_PACKAGES = {
    "pytest": ("runs the tests", "bash scripts/test.sh installs it"),
    "ruff": ("checks the style of the code", "bash scripts/test.sh installs it"),
    "scikit-image": ("independent picture metrics in tests", "bash scripts/test.sh installs it"),
    "torchmetrics": ("independent picture metrics in tests", "bash scripts/test.sh installs it"),
    "dlib-bin": ("judge of identity; its weights are the asset dlib_identity", "pip install dlib-bin==20.0.1.post1"),
    "face-alignment": ("a second landmark detector", "see requirements-gpu.txt: it needs --no-deps"),
    "torchaudio": ("only beside a CUDA build of torch", "see requirements-gpu.txt"),
    "onnx": ("inference.py --backend onnx", "see requirements-gpu.txt"),
    "onnxscript": ("inference.py --backend onnx", "see requirements-gpu.txt"),
    "onnxruntime": ("inference.py --backend onnx", "see requirements-gpu.txt"),
    "nvdiffrast": ("rasterizer on CUDA", "see requirements-gpu.txt: it is built from source"),
}
# A run folder of the tiny preset, an LMDB of a few hundred clips and the demo together stay below this.
ENOUGH_DISK_GB = 5


@dataclass
class Check:
    """One line of the table. `advice` is empty when all is well."""

    group: str
    name: str
    ok: bool
    required: bool
    detail: str
    advice: str = ""

    @property
    def state(self):
        """ok, wrong (required and missing, damaged or outdated) or absent (optional)."""
        return "ok" if self.ok else "wrong" if self.required else "absent"


def read_requirements(path):
    """Requirement objects of a requirements file; comments and `-r` lines are skipped."""
    from packaging.requirements import Requirement

    lines = (line.split("#")[0].strip() for line in Path(path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def check_python():
    """The interpreter."""
    version = sys.version_info
    return Check(
        "machine",
        "python",
        (3, 11) <= version[:2],
        True,
        f"{platform.python_version()} on {platform.platform(terse=True)}",
        "" if (3, 11) <= version[:2] else "install Python 3.11 or newer and remove .venv",
    )


def check_package(name, accepts=None, required=True, purpose="", remedy="pip install -r requirements.txt"):
    """Is a package installed, in an accepted version (a SpecifierSet), and does it import?"""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(
            "packages", name, False, required, f"not installed {f'({purpose})' * bool(purpose)}".strip(), remedy
        )
    if accepts is not None and not accepts.contains(version, prereleases=True):
        return Check("packages", name, False, required, f"{version}, {accepts} is needed", remedy)
    try:
        importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
    except (ImportError, OSError, RuntimeError) as error:  # OSError: a shared library that is not there
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Check("packages", name, False, required, f"{version}, but does not import: {reason}", remedy)
    return Check("packages", name, True, required, version)


def check_packages():
    """What requirements.txt asks for, then what is optional."""
    try:
        requirements = read_requirements(REPOSITORY / "requirements.txt")
    except ImportError:
        return [Check("packages", "packaging", False, True, "not installed", "pip install -r requirements.txt")]
    checks = [check_package(requirement.name, requirement.specifier) for requirement in requirements]
    for name, (purpose, remedy) in OPTIONAL_PACKAGES.items():
        checks.append(check_package(name, required=False, purpose=purpose, remedy=remedy))
    return checks


def check_asset(asset):
    """One entry of data/assets.json, its content hashed."""
    trouble = find_damage(asset, hashed=True) or find_staleness(asset)
    detail = trouble or f"whole, {asset.path.stat().st_size / 1e6:.1f} MB, {asset.licence}"
    return Check("assets", asset.name, trouble is None, not asset.optional, detail, asset.remedy if trouble else "")


def check_open_head():
    """Does the baked head load as a face model?"""
    try:
        from deep_3drecon.face_model import load_face_model

        model = load_face_model("open")
    except ImportError as error:
        return Check("assets", "open_head loads", False, True, str(error), "pip install -r requirements.txt")
    except (AssetError, ValueError, KeyError, OSError) as error:
        return Check(
            "assets", "open_head loads", False, True, str(error), "python -m scripts.download --force open_head"
        )
    return Check("assets", "open_head loads", True, True, f"{model.n_vertices} vertices, hash {model.hash}")


def check_device():
    """Where torch computes, and with how many threads."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [
            Check(
                "machine",
                "torch",
                False,
                True,
                (str(error) or type(error).__name__).splitlines()[0],
                "pip install -r requirements.txt",
            )
        ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    set_to = os.environ.get("OMP_NUM_THREADS", "not set")
    threads = f"{cores} cores, torch uses {torch.get_num_threads()} threads, OMP_NUM_THREADS {set_to}"
    if torch.cuda.is_available():
        cuda = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    else:
        cuda = "none that torch can use: everything runs on the CPU"
    advice = "" if torch.cuda.is_available() else "only for speed: an NVIDIA card, its driver and a CUDA build of torch"
    return [
        Check("machine", "torch", True, True, torch.__version__),
        Check("machine", "cuda", torch.cuda.is_available(), False, cuda, advice),
        Check("machine", "threads", True, True, threads),
    ]


def check_folder(folder):
    """Can the folder be written, and is there room?"""
    advice = "make it writable, or make room; IDIOLECT_ASSETS moves the assets elsewhere"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return [Check("machine", "folder", False, True, f"{folder}: {error.strerror or error}", advice)]
    free = shutil.disk_usage(folder).free / 1e9
    enough = free > ENOUGH_DISK_GB
    return [
        Check("machine", "folder", True, True, f"{folder} can be written"),
        Check("machine", "disk", enough, False, f"{free:.0f} GB free", "" if enough else advice),
    ]


def examine():
    """All checks, in the order of the table."""
    checks = [check_python(), *check_device(), *check_folder(REPOSITORY / "data"), *check_packages()]
    if assets_dir() != REPOSITORY / "data" / "assets":
        checks += check_folder(assets_dir())
    checks += [check_asset(asset) for asset in read_manifest().values()]
    if all(check.ok for check in checks if check.name == "open_head"):
        checks.append(check_open_head())
    return checks


def format_table(checks):
    """The checks as text, groups together, and a closing line."""
    width = max(len(check.name) for check in checks)
    lines = []
    for group in dict.fromkeys(check.group for check in checks):
        lines += ["", group]
        for check in checks:
            if check.group == group:
                lines.append(f"  {check.state:8}{check.name:{width}}  {check.detail}")
                if check.advice:
                    lines.append(f"  {'':8}{'':{width}}  -> {check.advice}")
    wrong = [check.name for check in checks if check.state == "wrong"]
    lines += ["", f"to be put right: {', '.join(wrong)}" if wrong else "everything required is here"]
    return "\n".join(lines[1:])


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    checks = examine()
    if args.json:
        print(json.dumps([asdict(check) | {"state": check.state} for check in checks], indent=2))
    else:
        print(format_table(checks))
    return 1 if any(check.state == "wrong" for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
