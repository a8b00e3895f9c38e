"""The commands of the texts: every program they name is there and knows the options and settings that they give it."""

import re
from pathlib import Path

import pytest

import configs

REPOSITORY = Path(__file__).parents[1]
TEXTS = [REPOSITORY / "README.md", REPOSITORY / "data/README.md", *sorted((REPOSITORY / "configs").glob("*.yaml"))]
TEXTS += sorted((REPOSITORY / "data/checkpoints").glob("*/README.md"))
COMMAND = re.compile(r"(?:python -m ([\w.]+)|python (\w+\.py)|bash (scripts/\w+\.sh))((?:[ \t]+[^\s`#|;()]+)*)")


def list_commands(text):
    """[(program, [its words])] of all commands in a text."""
    return [(m[1] or m[2] or m[3], m[4].split()) for m in COMMAND.finditer(text)]


def source_of(program):
    """All sources of the room that the program lives in; its options may stand in a neighbour it shares them with."""
    path = REPOSITORY / (program if program.endswith((".py", ".sh")) else program.replace(".", "/") + ".py")
    assert path.is_file(), f"{program}: there is no {path.relative_to(REPOSITORY)}"
    rooms = {"inference.py": ["scripts/inference"], "scripts/animate.sh": ["scripts/inference"]}
    texts = [path.read_text()] + [p.read_text() for p in sorted(path.parent.glob("*.py"))]
    for room in rooms.get(program, [program.split(".")[0] + "/evaluation"]):
        texts += [p.read_text() for p in sorted((REPOSITORY / room).glob("*.py"))]
    return "\n".join(texts)


def knows(source, option):
    """Whether an option is given to an argument parser somewhere in a source, by its name or by a loop over names."""
    return f'"{option}"' in source or ('f"--{' in source and f'"{option[2:]}"' in source)


def faults_of(text):
    """What a text's commands ask for that is not there."""
    faults = []
    for program, words in list_commands(text):
        if "." not in program:  # pip, pytest, ...
            continue
        source = source_of(program)
        for word in words:
            option = word.split("=")[0]
            if option.startswith("--") and option != "--help" and not knows(source, option):
                faults.append(f"{program} does not know {option}")
            if program == "train_style.py" and re.fullmatch(r"[a-z_]+\.[a-z_.]+", option) and "=" in word:
                section, name = option.split(".")[:2]
                if name not in getattr(configs.load(), section).__dict__:
                    faults.append(f"there is no setting {option}")
    return faults


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_of_the_texts_exist(path):
    assert faults_of(path.read_text()) == []


def test_readme_names_commands():
    programs = {program for program, _ in list_commands((REPOSITORY / "README.md").read_text())}
    assert len(programs) > 20 and {"train_style.py", "inference.py", "scripts/demo.sh"} <= programs


@pytest.mark.parametrize(
    "text",
    [
        "python inference.py --no_such_option x",
        "`python -m scripts.evaluate --nothing`",
        "python train_style.py --config c data.lmdb=x optim.no_such=1",
    ],
)
def test_a_wrong_command_is_caught(text):
    assert len(faults_of(text)) == 1


def test_a_missing_program_is_caught():
    with pytest.raises(AssertionError, match="there is no"):
        faults_of("bash scripts/no_such.sh --x")
