#!/usr/bin/env bash
# The GPU benchmarks on a machine without network, from what was carried there.
#
#   benchmarks/engine/gpu.sh WHEELS MODELS DATA OUT [--quick]
#
# WHEELS  What Python there lacks: wheels of leanrag's dependencies, and llama-cpp-python as a wheel built for this GPU, or as its
#         source archive (llama_cpp_python-*.tar.gz; scikit-build-core and what it needs beside it), which is compiled here with
#         CMAKE_ARGS, -DGGML_CUDA=on by default; the wheel is kept in OUT/wheels for the next time.
# MODELS  reader.gguf, which answers, and embedder.gguf, which embeds for `ask`; without the latter a stand-in does. A file too
#         large to carry may lie there in pieces: reader.gguf.aa, reader.gguf.ab, ... (split -b 50M reader.gguf reader.gguf.).
# DATA    The data sets that benchmarks/README.md names.
# OUT     Gets engine_gpu.json, doctor.txt, trial.txt and machine.txt.
#
# PYTHON names the interpreter (python3), SITE the folder that the wheels are unpacked into (OUT/site).
set -euo pipefail

if [ $# -lt 4 ]; then
  sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
  exit 2
fi
wheels=$1 models=$2 data=$3 out=$4
shift 4
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$out/wheels"
out=$(cd "$out" && pwd)
site=${SITE:-$out/site}
export PYTHONPATH="$site:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

install() {
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$@"
}

shopt -s nullglob
all=("$wheels"/*.whl)
[ ${#all[@]} -eq 0 ] || install "${all[@]}"

sources=("$wheels"/llama_cpp_python-*.tar.gz)
built=("$wheels"/llama_cpp_python-*.whl)
if [ ${#built[@]} -eq 0 ] && [ ${#sources[@]} -gt 0 ]; then
  echo "compiling ${sources[0]}"
  started=$SECONDS
  CMAKE_ARGS=${CMAKE_ARGS:--DGGML_CUDA=on} CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} \
    "$python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir "$out/wheels" "${sources[0]}"
  echo "compiled in $((SECONDS - started)) s"
  install "$out"/wheels/llama_cpp_python-*.whl
fi

whole() {  # the file, or its pieces put together
  local pieces=("$models/$1".[a-z][a-z])
  if [ -e "$models/$1" ]; then
    echo "$models/$1"
  elif [ ${#pieces[@]} -gt 0 ]; then
    cat "${pieces[@]}" > "$out/$1"
    echo "$out/$1"
  fi
}
reader=$(whole reader.gguf)
embedder=$(whole embedder.gguf)
[ -n "$reader" ] || { echo "$models holds no reader.gguf" >&2; exit 2; }

cd "$root"
{ nvidia-smi 2>&1 || true; lscpu 2>&1 || true; "$python" --version; } > "$out/machine.txt"
"$python" -m leanrag doctor | tee "$out/doctor.txt"
"$python" - "$reader" <<'PYTHON' | tee "$out/trial.txt"
import sys

from leanrag.llama.process import IsolatedModel

with IsolatedModel(sys.argv[1], n_ctx=512) as model:
    print(model.placement)
    print(model.generate("Once upon a time", max_tokens=16).text)
PYTHON
"$python" -m benchmarks.engine --device gpu --data "$data" --json "$out/engine_gpu.json" \
  --model "$reader" --embedder "${embedder:-hash}" "$@"
