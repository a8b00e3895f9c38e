#!/usr/bin/env bash
# The figures on the synthetic world, from nothing: 20 made-up speakers, training, an ablation of the losses, the report.
#
#   bash scripts/reproduce_synthetic.sh [MINUTES]
#
# MINUTES of speech to make, default 24. Speech is made by hibari-tts, which is installed into .venv for it. About an hour on two cores;
# steps already done are not done again. Results: data/runs/world*/report/{table.md,report.html}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes="${1:-24}"
source scripts/setup.sh requirements.txt
"$PYTHON" -m pip install --disable-pip-version-check --progress-bar off hibari-tts==0.2.1 onnxruntime

lmdb=data/lmdb/world
"$PYTHON" -m data_process.synthetic --speakers 20 --minutes "$minutes" --test_share 0.15 --val_share 0.05 \
    --render 256 --workers 2 --output "$lmdb"
"$PYTHON" -m data_process.stats --lmdb "$lmdb"

train_and_report() { # NAME, what differs for training, "--", what differs for the report
    local run="data/runs/$1" resume=() training=()
    shift
    while [ "$1" != "--" ]; do
        training+=("$1")
        shift
    done
    shift
    if [ -f "$run/last.pt" ]; then
        resume=(--resume)
    fi
    "$PYTHON" train_style.py --config configs/style_avatar_synthetic.yaml "data.lmdb=$lmdb" "run.output=$run" \
        ${training[@]+"${training[@]}"} ${resume[@]+"${resume[@]}"}
    "$PYTHON" -m scripts.evaluate --config configs/evaluate_synthetic.yaml "store=$lmdb" "checkpoint=$run" \
        "output=$run/report" "$@"
}

train_and_report world --
# What each group of losses contributes, judged by motion alone.
train_and_report world_coefficients loss.face=0 loss.lips=0 loss.lips_change=0 loss.lip_opening=0 -- video=false
train_and_report world_no_change loss.expression_change=0 loss.lips_change=0 loss.pose_change=0 -- video=false
train_and_report world_no_lips loss.lips=0 loss.lips_change=0 loss.lip_opening=0 -- video=false
