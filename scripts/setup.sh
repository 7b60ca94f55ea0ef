#!/usr/bin/env bash
# Makes a virtual environment with the product, all extras and the tools of development.
set -euo pipefail
: "${PYTHON:=python3}" "${VENV:=.venv}"

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null \
  || fail "a C++ compiler is needed to build llama.cpp; on Debian: apt-get install g++"

"$PYTHON" -m venv "$VENV" || fail "venv does not work; on Debian: apt-get install python3-venv"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
step() { printf 'setup: %s\n' "$1"; }
# Reading dependency groups needs pip 25.1.
pip install --quiet --upgrade 'pip>=25.1'
step "PyTorch"
# torch first and by its own range: a machine without a GPU can then take a build for the CPU.
pip install --quiet 'torch>=2.9,<2.14'
# llama.cpp configures AMX tiles in a way that GCC optimizes away; then the first prompt ends in an
# illegal instruction (llama.cpp pull request 26954). Until a release has it mended: without AMX.
if grep -qw amx_tile /proc/cpuinfo 2>/dev/null; then
  without_amx="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
  export CFLAGS="${CFLAGS:-} $without_amx" CXXFLAGS="${CXXFLAGS:-} $without_amx"
fi
step "the product; building llama.cpp takes some 4 minutes where no wheel of it is at hand"
pip install --quiet --editable '.[all,peers]'
# pip may have taken a wheel that was built on another machine, or with other flags: then a signal
# ends the trial. That somebody's settings name a model that is not there is no fault of llama.cpp.
survives() {
  local code=0
  "$VENV/bin/python" -P -m flex_assist.engine.trial || code=$?
  [ "$code" -lt 128 ]
}
if ! survives; then
  step "the llama.cpp at hand does not run here; building it anew"
  pip cache remove llama_cpp_python >/dev/null 2>&1 || true
  pip install --quiet --force-reinstall --no-deps "$(pip freeze | grep '^llama_cpp_python==')"
  survives || fail "llama.cpp does not run here"
fi
step "what development needs"
pip install --quiet --group dev
"$VENV/bin/flex-assist" --version
