#!/bin/sh
# compile.sh build|path: the path of a request as machine code (mypyc), beside the sources and never instead of them.
#   build  compile when the sources changed; says so and goes on when there is no compiler here
#   path   print the folder for PYTHONPATH when it was made from exactly these sources by this Python, else nothing
# What is made is a copy of the whole package with the compiled modules in it, in a folder named by the hash of what it
# was made from: an edited source is another hash, so that nothing stale can ever be run.
set -eu
cd "$(dirname "$0")/.."
python=$PWD/${PYTHON:-.venv/bin/python}
# Modules whose values are written as JSON stay plain Python: orjson reads a dataclass by its layout, and would read
# beyond the end of a compiled one.
values='core/dispatch/events.py core/quota/limits.py'
modules='core/audio.py core/continuation/*.py core/dispatch/*.py core/dispatch/distributed/*.py core/quota/*.py core/impact.py core/keys.py
    core/request_body.py core/request_extras.py core/requests.py core/summing.py core/usage.py core/wire.py ports/client.py ports/upload.py ports/upstream.py
    services/accounting.py services/admission.py services/answers.py services/audio.py services/client_answer.py
    services/context.py services/continuation.py services/ending.py services/exchange.py services/impacts.py
    services/inference.py services/plain_body.py services/prices.py services/progress.py services/quotas.py
    services/records.py services/registry.py services/sending.py services/stages.py services/uploading.py
    services/wishes.py adapters/broker_memory.py adapters/broker_remote.py adapters/writes.py http/checks.py http/front.py http/reading.py
    http/writing.py relay/connection.py relay/sending.py relay/upstream.py'

[ -x "$python" ] || exit 0
hash=$({
    cat "$0"
    "$python" -c 'import sys, sysconfig; print(sys.version, sysconfig.get_config_var("EXT_SUFFIX"))'
    find src/ilaas -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum
} | sha256sum | cut -c1-16)
folder=$PWD/build/compiled/$hash

case ${1:-} in
path)
    [ ! -d "$folder" ] || echo "$folder"
    exit 0
    ;;
build) ;;
*)
    echo "usage: compile.sh build|path" >&2
    exit 2
    ;;
esac

if [ -d "$folder" ]; then
    echo "compiled already: $folder"
    exit 0
fi
mypyc=$(dirname "$python")/mypyc
if [ ! -x "$mypyc" ] || ! command -v "${CC:-gcc}" >/dev/null; then
    echo "not compiled: it needs mypyc (make setup) and gcc; the gateway runs as plain Python"
    exit 0
fi
echo "compiling the path of a request (about a minute) ..."
rm -rf build/compiled
work=$folder.work
mkdir -p "$work"
cp -r src/ilaas "$work/"
cd "$work"
find . -name __pycache__ -prune -exec rm -rf {} +
printf '[tool.mypy]\nstrict = true\n[[tool.mypy.overrides]]\nmodule = ["httptools.*"]\nignore_missing_imports = true\n' \
    >pyproject.toml
files=$(cd ilaas && ls $modules | grep -v -e __init__ $(printf ' -e %s' $values) | sed 's#^#ilaas/#')
if PATH=$(dirname "$python"):$PATH MYPYC_DEBUG_LEVEL=0 "$mypyc" $files >log 2>&1; then
    rm -rf build pyproject.toml .mypy_cache
    mv "$work" "$folder"
    echo "compiled: $folder"
else
    tail -n 20 log
    cd /
    rm -rf "$work"
    echo "not compiled: the gateway runs as plain Python"
fi
