"""llama.cpp's own HTTP server, for tests: GGUF and context as arguments.

Prints its address when it listens, and ends when its stdin is closed, so that
a test that dies takes it along.
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
# More threads than cores make such a small model a thousand times slower.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
if len(sys.argv) > 3:
    params.api_keys = [sys.argv[3]]
server = xllamacpp.Server(params)
print("listening " + server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
