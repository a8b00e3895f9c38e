# Sourced by demo.sh and test.sh, never run alone: makes or reuses .venv, installs what is not installed yet, fetches
# the assets, and leaves PYTHON set to the environment's interpreter.
#
#   source scripts/setup.sh requirements.txt [requirements-dev.txt ...]
#
# IDIOLECT_VENV    folder of the virtual environment (default .venv)
# IDIOLECT_PYTHON  interpreter that makes it (default: the first of python3.11, 3.12, 3.13, python3 that will do)

find_python() {
    local candidate
    for candidate in ${IDIOLECT_PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11 to 3.13 found: install one, or let IDIOLECT_PYTHON name its interpreter" >&2
    return 1
}

make_environment() {
    local venv="$1" python
    # asked of pip, so that an environment whose making was cut off is made again
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python="$(find_python)"
    echo "making $venv with $("$python" --version)"
    if ! "$python" -m venv "$venv"; then
        echo "error: $python could not make $venv: on Debian and Ubuntu, install the package python3-venv" >&2
        return 1
    fi
}

# What an installed requirements file was installed from: the Python version and the content's hash.
print_stamp() {
    "$1/bin/python" - requirements.txt "$2" <<'PYTHON_CODE'
import hashlib, sys
print(sys.version_info[:2], *(hashlib.sha256(open(name, "rb").read()).hexdigest() for name in sys.argv[1:]))
PYTHON_CODE
}

install_requirements() {
    local venv="$1" file wanted=() arguments=()
    shift
    for file in "$@"; do
        if [ "$(cat "$venv/installed-$file" 2>/dev/null)" != "$(print_stamp "$venv" "$file")" ]; then
            wanted+=("$file")
            arguments+=(-r "$file")
        fi
    done
    if [ ${#wanted[@]} -eq 0 ]; then
        return
    fi
    echo "installing ${wanted[*]} into $venv"
    if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
        echo "(no NVIDIA card here: should pip fetch a CUDA build of torch, requirements.txt names the smaller one)"
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "${arguments[@]}"
    for file in "${wanted[@]}"; do
        print_stamp "$venv" "$file" >"$venv/installed-$file"
    done
}

VENV="${IDIOLECT_VENV:-.venv}"
make_environment "$VENV"
install_requirements "$VENV" "$@"
PYTHON="$VENV/bin/python"
"$PYTHON" -m scripts.download
