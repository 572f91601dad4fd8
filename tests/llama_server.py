"""Runs llama.cpp's own HTTP server for tests.

    llama_server.py GGUF CONTEXT [API_KEY]

Prints its address when it listens. Stops when its stdin is closed, so that it stops with the
test.
"""

import os
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[2])
params.n_parallel = 1
params.hostnames = ["127.0.0.1"]
params.port = 0
params.endpoint_slots = True
params.use_jinja = True
params.warmup = False
# With more threads than cores such a small model is a thousand times slower.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
if len(sys.argv) > 3:
    params.api_keys = [sys.argv[3]]
server = xllamacpp.Server(params)
print("listening " + server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
