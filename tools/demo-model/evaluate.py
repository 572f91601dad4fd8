"""Counts the exact answers of a GGUF file, run by llama.cpp's HTTP server.

    python evaluate.py --model demo.gguf --texts ../../tests/data/tldr.jsonl

Exits with 1 if fewer than --least percent of the answers are exact.
"""

import argparse
import json
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import xllamacpp

import instructions


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_server(path):
    port = free_port()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.use_jinja = True
    parameters.warmup = False
    return xllamacpp.Server(parameters), f"http://127.0.0.1:{port}"


def post(url, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def wait_until_ready(base):
    for _ in range(100):
        try:
            urllib.request.urlopen(base + "/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit("the server did not start")


def answer(base, prompt):
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "repeat_penalty": 1.0,
        "max_tokens": 200,
    }
    return post(base + "/v1/chat/completions", body)["choices"][0]["message"]["content"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument(
        "--texts", type=Path, required=True, help="JSON lines with the keys text and first"
    )
    arguments.add_argument("--prompt", default=instructions.STOCK + "\n\n{text}\n")
    arguments.add_argument(
        "--least", type=float, default=0.0, help="minimum share of exact answers [percent]"
    )
    options = arguments.parse_args()
    prompt = options.prompt.replace("\\n", "\n")

    server, base = start_server(options.model.resolve())
    wait_until_ready(base)
    lines = options.texts.read_text(encoding="utf-8").splitlines()
    tasks = [json.loads(line) for line in lines if line]
    exact = 0
    for number, task in enumerate(tasks, start=1):
        got = answer(base, prompt.replace("{text}", task["text"]))
        if got.strip() == task["first"].strip():
            exact += 1
        else:
            print(f"{number}: expected {task['first']!r}\n   got {got!r}")
    share = 100 * exact / len(tasks)
    print(f"{exact}/{len(tasks)} exact ({share:.1f} %)")
    del server
    if share < options.least:
        sys.exit(1)


if __name__ == "__main__":
    main()
