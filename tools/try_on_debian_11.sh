#!/usr/bin/env bash
# Tries a wheel on Debian 11, whose glibc is 2.31: a photo is classified there, `fastcnn doctor` and the smoke tests run.
# As root on Debian 12, with debootstrap:
#
#   tools/try_on_debian_11.sh dist/fastcnn-*-cp311-*.whl [FOLDER]
#
# FOLDER keeps the system for the next time. Debian 11 has Python 3.9: Debian 12's 3.11 is built there from its source.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(realpath "$1")
root=$(realpath -m "${2:-build/debian11}")
mirror=http://deb.debian.org/debian

if [ ! -x "$root/opt/python/bin/python3" ]; then
    libraries=zlib1g-dev,libffi-dev,libssl-dev,libbz2-dev,liblzma-dev,libsqlite3-dev
    debootstrap --variant=minbase --include="gcc,make,libc6-dev,ca-certificates,$libraries" bullseye "$root" "$mirror"
    lists=$(mktemp -d)
    mkdir "$lists/partial"
    echo "deb-src $mirror bookworm main" >"$lists/sources.list"
    source_lists=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$lists")
    apt-get "${source_lists[@]}" update
    mkdir -p "$root/src"
    (cd "$root/src" && apt-get "${source_lists[@]}" source --download-only python3.11 && tar -xf python3.11_*.orig.tar.*)
    chroot "$root" sh -c 'cd /src/Python-3.11* && ./configure -q --prefix=/opt/python && make -s -j2 && make -s install'
fi

rm -rf "$root/trial"
mkdir -p "$root/trial/wheels"
python3.11 -m pip download -q --only-binary :all: -d "$root/trial/wheels" \
    "$wheel[imagenet]" pytest scikit-learn threadpoolctl
cp -r tests tools examples pyproject.toml README.md "$root/trial"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
chroot "$root" bash -euo pipefail -c '
    cd /trial
    ldd --version | sed -n 1p
    /opt/python/bin/python3 -m venv --clear /environment
    /environment/bin/pip install -q --no-index --find-links wheels "fastcnn[imagenet]" pytest scikit-learn threadpoolctl
    /environment/bin/fastcnn classify examples/cat.png | grep "tiger cat"
    /environment/bin/fastcnn doctor
    /environment/bin/python -m pytest -q tests/test_smoke.py tests/test_neighbours.py'
