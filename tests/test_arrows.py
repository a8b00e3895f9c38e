"""The arrows between packages point one way, and the code keeps off the machine it happens to lie on."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Each package may import itself and these.
ALLOWED = {
    "configs": set(),
    "deepspeech": set(),
    "deep_3drecon": set(),
    "data_process": {"deep_3drecon", "deepspeech"},
    "models": {"deep_3drecon"},
}
# Command lines: they may import every package, and nobody imports them.
ENTRY_POINTS = ("train_style", "inference", "scripts", "deep_3drecon.reconstruct")
# Plain packages that a long command line is split into: other command lines of scripts/ may import them.
PARTS_OF_SCRIPTS = ("scripts.evaluation", "scripts.benchmarks", "scripts.inference", "scripts.training")
OWN_PARTS = {"inference": "scripts.inference", "train_style": "scripts.training"}
# Written so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~}\])-])/(?:home|root|work|Users|mnt|media|scratch)/\w|\b[A-Z]:\\Users\b")
TEXT_SUFFIXES = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".json", ".txt", ".cfg"}


def is_entry_point(module):
    return any(module == entry or module.startswith(entry + ".") for entry in ENTRY_POINTS)


def is_part_of_scripts(module):
    return any(module == part or module.startswith(part + ".") for part in PARTS_OF_SCRIPTS)


def list_modules(root):
    """{dotted name: path} of the top-level modules and the packages below `root`."""
    paths = sorted(root.glob("*.py"))
    for package in (*ALLOWED, "scripts"):
        paths += sorted((root / package).rglob("*.py"))
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return {name: path for path, name in names.items()}


def list_imports(tree, module, is_package):
    """[(line, dotted name)] of everything imported anywhere in a module, inside functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") + ["__init__"] * is_package
            base = ".".join(parts[: -node.level]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            # `from deep_3drecon import reconstruct` imports a module too
            names = [source] + [f"{source}.{alias.name}".lstrip(".") for alias in node.names]
            found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def find_forbidden_arrows(root):
    """["file:line: module imports other, ..."] for every import that no arrow allows."""
    modules = list_modules(root)
    faults = []
    for module, path in modules.items():
        package = module.split(".")[0]
        for line, imported in list_imports(ast.parse(path.read_text()), module, path.name == "__init__.py"):
            target = imported.split(".")[0]
            where = f"{path.relative_to(root)}:{line}: {module} imports {imported}"
            if is_part_of_scripts(imported) and module.startswith("scripts."):
                continue
            if module in OWN_PARTS and (imported + ".").startswith(OWN_PARTS[module] + "."):
                continue
            if is_entry_point(imported) and imported != module:
                faults.append(f"{where}, a command line that nobody may import")
            elif target in ALLOWED and target != package and not is_entry_point(module):
                if package not in ALLOWED:
                    faults.append(f"{where}, and is itself neither a package of ours nor an entry point")
                elif target not in ALLOWED[package]:
                    faults.append(f"{where}, {package} may import only {sorted(ALLOWED[package]) or 'itself'}")
    return faults


def is_main_guard(node):
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def run_at_import(node):
    """The nodes below `node` that are executed when the module is imported."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_main_guard(node):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from run_at_import(child)


def find_work_at_import(root):
    """["file:line: ..."] for argparse at module level and for any use of sys.path."""
    faults = []
    for path in list_modules(root).values():
        tree = ast.parse(path.read_text())
        for node in run_at_import(tree):
            if isinstance(node, ast.Call) and re.search(r"\b(ArgumentParser|parse_args)$", ast.unparse(node.func)):
                faults.append(f"{path.relative_to(root)}:{node.lineno}: the command line is read at import")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
                faults.append(f"{path.relative_to(root)}:{node.lineno}: sys.path is used")
    return faults


def find_machine_paths(root):
    """["file:line: text"] for absolute paths of somebody's machine in the sources and texts of the project."""
    folders = (*ALLOWED, "scripts", "tests", "data", ".ci")
    paths = [path for path in root.glob("*") if path.is_file()]
    for folder in folders:
        paths += [path for path in (root / folder).rglob("*") if path.is_file()]
    private = {
        root / "data" / name for name in ("assets", "runs", "clips", "raw", "lmdb", "people", "meshes", "releases")
    }
    faults = []
    for path in sorted(paths):
        if path.suffix not in TEXT_SUFFIXES and path.name != "run" or private & set(path.parents):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if MACHINE_PATH.search(line):
                faults.append(f"{path.relative_to(root)}:{number}: {line.strip()[:80]}")
    return faults


def test_arrows_point_one_way():
    assert find_forbidden_arrows(REPOSITORY) == []


def test_nothing_works_at_import():
    assert find_work_at_import(REPOSITORY) == []


def test_no_path_of_a_machine():
    assert find_machine_paths(REPOSITORY) == []


def make_tree(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models/a.py", "import data_process.schema\n"),
        ("models/a.py", "def f():\n    from data_process import schema\n"),
        ("models/a.py", "from importlib import import_module\nimport_module('deepspeech.mel')\n"),
        ("models/a.py", "from .. import data_process\n"),
        ("data_process/a.py", "from models import METHODS\n"),
        ("data_process/deep/b.py", "from ..a import x\nfrom ...configs import load\n"),
        ("deep_3drecon/a.py", "import numpy, deepspeech\n"),
        ("deepspeech/__init__.py", "from deep_3drecon.track import FPS\n"),
        ("configs/__init__.py", "import models\n"),
        ("data_process/a.py", "from deep_3drecon import reconstruct\n"),
        ("data_process/a.py", "import deep_3drecon.reconstruct\n"),
        ("deep_3drecon/a.py", "from . import reconstruct\n"),
        ("scripts/a.py", "from scripts.download import main\n"),
        ("inference.py", "import train_style\n"),
        ("models/a.py", "from scripts.evaluation import rows\n"),
        ("models/a.py", "from scripts.inference import run\n"),
        ("inference.py", "from scripts.evaluation import rows\n"),
        ("inference.py", "from scripts.training import folder\n"),
        ("models/a.py", "from scripts.training import setup\n"),
        ("scripts/inference/a.py", "import inference\n"),
        ("scripts/evaluation/a.py", "from scripts.evaluate import main\n"),
        ("helper.py", "import models\n"),
    ],
)
def test_a_forbidden_arrow_is_caught(tmp_path, name, text):
    faults = find_forbidden_arrows(make_tree(tmp_path, name, text))
    assert faults and all(fault.startswith(name) for fault in faults)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models/a.py", "import torch\nfrom deep_3drecon.camera import project\nfrom . import b\nimport models.c\n"),
        ("data_process/a.py", "from deepspeech import mel\nfrom deep_3drecon.fit import fit_clip\n"),
        ("deep_3drecon/reconstruct.py", "from data_process.video import read_frames\nfrom deep_3drecon import fit\n"),
        ("scripts/a.py", "import configs, models, data_process\n"),
        ("scripts/a.py", "from scripts.evaluation import rows\nfrom scripts.benchmarks.table import STAGES\n"),
        ("scripts/benchmarks/a.py", "from scripts.benchmarks import b\nimport models\n"),
        ("inference.py", "from scripts.inference import encode\nfrom scripts.inference.run import run\n"),
        ("scripts/a.py", "from scripts.inference.encode import encode\n"),
        ("train_style.py", "from scripts.training.folder import RunFolder\n"),
        ("train_style.py", "from configs import load\nfrom data_process.dataset import Windows\n"),
    ],
)
def test_an_allowed_arrow_passes(tmp_path, name, text):
    assert find_forbidden_arrows(make_tree(tmp_path, name, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import argparse\nargs = argparse.ArgumentParser().parse_args()\n",
        "import sys\nsys.path.append('x')\n",
        "import sys\ndef f():\n    sys.path.insert(0, 'x')\n",
    ],
)
def test_work_at_import_is_caught(tmp_path, text):
    assert find_work_at_import(make_tree(tmp_path, "models/a.py", text))


def test_command_lines_inside_functions_pass(tmp_path):
    text = "import argparse\ndef main():\n    argparse.ArgumentParser()\nif __name__ == '__main__':\n    main()\n"
    assert find_work_at_import(make_tree(tmp_path, "models/a.py", text)) == []


@pytest.mark.parametrize("start", ["/ho" + "me/anna/x", "/ro" + "ot/x", "C:\\Us" + "ers\\anna"])
def test_a_machine_path_is_caught(tmp_path, start):
    assert find_machine_paths(make_tree(tmp_path, "models/a.py", f"PATH = '{start}'\n"))


def test_paths_inside_the_repository_pass(tmp_path):
    text = "# shared/media/clips, ../play/x, data/runs/home/x, https://host.example/home/x\n"
    assert find_machine_paths(make_tree(tmp_path, "models/a.py", text)) == []
