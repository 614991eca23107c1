#!/bin/sh
# real-server.sh [status|lock]: build llama.cpp's OpenAI-compatible server for `make test-real`, once, into .cache/real.
#   status  only say whether the built wheels are there (exit code 0) or not (1)
#   lock    renew scripts/real.lock, needs `uv` on the PATH
# The first run compiles llama.cpp (several minutes, needs cmake and a C++ compiler, installed when missing); the wheels are
# kept, so that the next virtual environment takes seconds and no network.
set -eu
cd "$(dirname "$0")/.."
cache=${ILAAS_REAL_CACHE:-.cache/real}
lock=scripts/real.lock
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3

if [ "${1:-}" = lock ]; then
    printf 'llama-cpp-python[server]==0.3.36\ngguf==0.19.0\n' >"${TMPDIR:-/tmp}/real.in"
    exec uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url "${TMPDIR:-/tmp}/real.in" --output-file "$lock"
fi

# the name holds what the wheels depend on: another lock, Python or processor means another folder
tag=$("$python" -c 'import hashlib, platform, sys
lock = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:12]
print(f"{sys.implementation.cache_tag}-{platform.machine()}-{lock}")' "$lock")
wheels=$cache/wheels/$tag
if [ "${1:-}" = status ]; then
    [ -e "$wheels/complete" ]
    exit
fi

if [ ! -e "$wheels/complete" ]; then
    echo "building the real server (llama.cpp) once, about five minutes on two cores ..."
    scripts/need.sh cmake=cmake g++=g++ make=make
    rm -rf "$wheels.part"
    mkdir -p "$wheels.part"
    # a tiny model needs neither vector tricks of this very processor nor the best machine code, but a short build
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCMAKE_C_FLAGS_RELEASE=-O1" \
        CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
        "$python" -m pip wheel -qq --no-deps --require-hashes -r "$lock" --wheel-dir "$wheels.part"
    touch "$wheels.part/complete"
    rm -rf "$wheels"
    mv "$wheels.part" "$wheels"
fi

if [ "$(cat "$cache/venv/.made-from" 2>/dev/null)" != "$tag" ]; then
    rm -rf "$cache/venv"
    "$python" -m venv "$cache/venv"
    "$cache/venv/bin/python" -m pip install --quiet --no-index --no-deps "$wheels"/*.whl
    echo "$tag" >"$cache/venv/.made-from"
fi

if [ ! -e "$cache/tiny.gguf" ] || [ tests/real/make_model.py -nt "$cache/tiny.gguf" ]; then
    "$cache/venv/bin/python" tests/real/make_model.py "$cache/tiny.gguf"
fi
