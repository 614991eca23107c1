#!/bin/sh
# Make a virtual environment with Python 3.11 or newer; install python3-venv where the system lacks it.
# The distribution's own Python comes first: Debian and Ubuntu build it with profile-guided and link-time optimisation,
# which most that people compile themselves (pyenv's, unless asked) lack, and with which a request costs a fifth less.
# ILAAS_PYTHON names another.
set -eu
venv=$1

fits() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=
for candidate in ${ILAAS_PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    if fits "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ] && [ -z "${ILAAS_PYTHON:-}" ]; then
    "$(dirname "$0")/need.sh" -=python3 -=python3-venv
    python=/usr/bin/python3
fi
fits "${python:=$ILAAS_PYTHON}" || {
    echo "ilaas needs Python 3.11 or newer with its venv module; $python is not such a one" >&2
    exit 1
}
"$python" -m venv "$venv"
