#!/usr/bin/env bash
# One clip of somebody talking -> a person folder, which inference.py --person takes.
#
#   bash scripts/personalize.sh CLIP [--name NAME] [--output FOLDER] ...
#
# Sets up .venv and the assets where needed; further arguments are those of scripts/personalize.py (--help lists them). Run the same command
# again to go on after an interruption.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/setup.sh requirements.txt
"$PYTHON" -m scripts.personalize "$@"
