#!/bin/sh
# Make a virtual environment with Python 3.11 or newer; install python3-venv where the system lacks it.
set -eu
venv=$1
for python in python3 python3.13 python3.12 python3.11; do
    command -v "$python" >/dev/null 2>&1 || continue
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
    python=
done
if [ -z "${python:-}" ] || ! "$python" -c 'import ensurepip' 2>/dev/null; then
    "$(dirname "$0")/need.sh" -=python3 -=python3-venv
    python=python3
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "ilaas needs Python 3.11 or newer; found $("$python" --version)" >&2
    exit 1
}
"$python" -m venv "$venv"
