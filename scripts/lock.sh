#!/bin/sh
# Renew the lock files: exact versions with hashes, for every platform and Python from 3.11 on.
set -eu
bin=$1
"$bin/python" -m pip install --quiet uv
compile() {
    "$bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --custom-compile-command "make lock" "$@"
}
# the build back end is locked too, so that installing ilaas itself fetches nothing
printf 'hatchling\neditables\n' >"$bin/../build.in"
compile pyproject.toml "$bin/../build.in" --output-file requirements.lock
compile pyproject.toml "$bin/../build.in" --group dev --constraints requirements.lock --output-file requirements-dev.lock
