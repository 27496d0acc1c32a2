# Sourced by the other scripts, which then call `use_environment [dev]`: makes .venv in the project's
# root from the lock file, once, and puts it first in PATH.
# Set PYTHON to choose an interpreter, VENV to choose another folder.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${VENV:-$root/.venv}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: Python 3.11 or newer is needed and none was found; install it, or set PYTHON=/path/to/python" >&2
    return 2
}

use_environment() {
    local lock=requirements${1:+-$1}.lock stamp=$venv/.installed-${1:-run} python
    if ! cmp -s <(cat requirements*.lock pyproject.toml) "$stamp"; then
        python=$(find_python) || exit 2
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
        echo "Installing into $venv from $lock (a few minutes the first time)"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lock"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
        # The stamp is written last, so that an interrupted installation starts over.
        cat requirements*.lock pyproject.toml > "$stamp"
    fi
    export PATH="$venv/bin:$PATH"
}
