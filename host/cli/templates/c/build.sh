#!/bin/sh
# Builds {{name}}.wasm. README.md describes how to install the tools.
set -eu
cd "$(dirname "$0")"

# What the pack exports: -DPACK_RESOLVER for prompts, -DPACK_PROCESSOR for processors.
exports="
{{#resolver}}
    -DPACK_RESOLVER
{{/resolver}}
{{#processor}}
    -DPACK_PROCESSOR
{{/processor}}
"

mkdir -p build
# With the sanitizer, a null pointer or an index that is out of bounds ends the call.
python3 -m ziglang cc -target wasm32-wasi -mexec-model=reactor -O2 -Wall $exports \
    -fsanitize=null,bounds,pointer-overflow -fsanitize-trap=all -fno-stack-protector \
    -Wl,-z,stack-size=1048576 pack.c sdk/*.c -o build/core.wasm
# Keeps the names of functions, which are in the error of a crash.
python3 sdk/strip.py build/core.wasm
node_modules/.bin/jco new --wasi-reactor build/core.wasm -o {{name}}.wasm
