#!/usr/bin/env bash
# Sets up .venv and the assets where needed, then runs the linter and all tests. Arguments go to pytest:
#   bash scripts/test.sh -k camera
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# one thread each: beside other work two threads of torch are slower than one, often by an order of magnitude
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

source scripts/setup.sh requirements.txt requirements-dev.txt
"$PYTHON" -m ruff check --output-format concise .
"$PYTHON" -m pytest -q "$@"
