#!/bin/sh
# bench-router.sh: install sglang-router in an environment of its own for `make bench`. Says so and goes on when it can't.
set -u
cd "$(dirname "$0")/.."
venv=.cache/bench/venv
lock=scripts/bench-router.lock
cmp -s "$lock" "$venv/.made-from" && exit 0
echo "installing sglang-router for comparison ..."
rm -rf "$venv"
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
if "$python" -m venv "$venv" && "$venv/bin/python" -m pip install -qq --require-hashes --only-binary :all: -r "$lock"; then
    cp "$lock" "$venv/.made-from"
else
    rm -rf "$venv"
    echo "sglang-router could not be installed here: its column will be missing"
fi
