#!/usr/bin/env bash
# From a fresh clone to a talking face: sets up .venv and the assets where needed, then makes data/runs/demo/demo.mp4.
# Arguments go to scripts.demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/setup.sh requirements.txt
"$PYTHON" -m scripts.demo "$@"
