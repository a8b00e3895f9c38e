#!/usr/bin/env bash
# A moving mesh from a sound: bash scripts/animate.sh speech.wav [inference.py --mesh options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/setup.sh requirements.txt
if [[ "${1:-}" == --help ]]; then
    exec "$PYTHON" inference.py --mesh open --help
fi
if [[ ! -f "${1:-}" ]]; then
    echo "error: ${1:-nothing}: no such file: bash scripts/animate.sh speech.wav [--style someone.npz ...]" >&2
    exit 2
fi
sound=$1
shift
"$PYTHON" inference.py --mesh open --driven_audio "$sound" "$@"
