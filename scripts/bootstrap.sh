#!/bin/sh
# Makes the virtual environment in $1 with pip in it. Needs Python 3.11 or newer and nothing else that Python has.
# PYTHON names the interpreter; without it the first of python3, python3.14, ... that is new enough is taken.
set -eu
target=$1

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

works() {
    "$target/bin/python" -m pip --version >/dev/null 2>&1
}

# One that somebody made by hand is used as it is; one that was moved here (.place names where it was made) is not.
if [ ! -f "$target/.place" ] && works && is_new_enough "$target/bin/python"; then
    exit 0
fi

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Cupola needs Python 3.11 or newer: install it (python3 on Debian 12, Ubuntu 24.04 or newer), or name it with PYTHON=/path/to/python3." >&2
    exit 1
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
echo "Making a virtual environment in $target with Python $version"
rm -rf "$target"
if "$python" -c 'import ensurepip, venv' 2>/dev/null && "$python" -m venv "$target" 2>/dev/null && works; then
    exit 0
fi
# Debian and Ubuntu split ensurepip off; another pip can put one into the environment.
if "$python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$target"
    if "$python" -m venv --without-pip "$target" &&
        "$python" -m pip --python "$target/bin/python" install -q --disable-pip-version-check pip && works; then
        exit 0
    fi
fi
if command -v uv >/dev/null 2>&1; then
    rm -rf "$target"
    if uv venv -q --seed --python "$python" "$target" && works; then
        exit 0
    fi
fi
if command -v virtualenv >/dev/null 2>&1; then
    rm -rf "$target"
    if virtualenv -q --python "$python" "$target" && works; then
        exit 0
    fi
fi
rm -rf "$target"
echo "$(command -v "$python") cannot make virtual environments: install the package python$version-venv (Debian, Ubuntu: apt install python$version-venv) and repeat." >&2
exit 1
