# Sourced by the commands next to it, with ROOT set: finds Python and fills the virtual environment.
# Sets PY to the environment's interpreter. Exit status 69: no suitable Python.

find_python() {
    for candidate in "$ROOT/.venv/bin/python" python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c '
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 with its venv module is needed, and none was found" \
        "(Debian and Ubuntu: apt install python3-venv)." >&2
    return 69
}

# ensure_env EXTRAS: EXTRAS separated by commas.
ensure_env() {
    python=$(find_python) || exit $?
    PY=$("$python" -I "$ROOT/scripts/_env.py" "$1") || exit $?
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
}
