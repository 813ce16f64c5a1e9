#!/usr/bin/env bash
# Installs into a folder the clients of Firecracker that the tests in tests/guests/api run: a program with the Rust SDK
# fctools, and the Python package firecracker-python with all that it wants.
#
# clients.sh FOLDER [PYTHON-VERSION]
set -euo pipefail
folder=$1
cd "$(dirname "$0")/../.."
. tools/lib/setup.sh

# Of the Python that runs it: this machine's where guests run directly, else the testbed's, which is Debian 12's.
PYTHON=${2:-3.11}
PACKAGE=firecracker-python==0.0.5

mkdir -p "$folder"
(cd tests/clients/fctools && CARGO_TARGET_DIR="$folder" cargo build --locked --quiet)
cp "$folder/x86_64-unknown-linux-gnu/debug/fctools-client" "$folder/"

if [ "$(cat "$folder/python/.made-of" 2>/dev/null)" != "$PACKAGE $PYTHON" ]; then
    python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip
    rm -rf "$folder/python"
    # Wheels only: nothing is built, so that a machine with another Python can do it too.
    python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore \
        --only-binary :all: --python-version "$PYTHON" --target "$folder/python" "$PACKAGE" >&2 \
        || fail "$PACKAGE could not be installed from PyPI"
    echo "$PACKAGE $PYTHON" >"$folder/python/.made-of"
fi
