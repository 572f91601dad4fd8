"""Runs prompts with llama.cpp, for tests/embedded/mod.rs.

    llama_cpp.py FOLDER < prompts.json > answers.jsonl

Loads every GGUF file of the folder with PyPI's xllamacpp. For each prompt of the list on
stdin it prints a line with the prompt's tokens and the tokens of the greedy answer. Each file
has its own process, because llama.cpp aborts the process on some errors.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import xllamacpp

TOKENS = 32


def start(path):
    """Starts a server in this process, with full precision where llama.cpp rounds by default."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 1
    # llama.cpp is much slower with more threads than cores.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.warmup = False
    # Answers must not depend on earlier prompts.
    params.cache_prompt = False
    # Flash attention and the default 16-bit cache change the scores of random models by several
    # percent.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(params)


def post(server, route, body):
    request = urllib.request.Request(
        server.listening_address + route, json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def run_model(path, prompts):
    server = start(path)
    if Path(path).name.startswith("kernel-"):
        # Large models, which test the quantized kernels and not the tokenizers.
        prompts = prompts[:3]
    for prompt in prompts:
        text = prompt["text"]
        if prompt["chat"]:
            messages = [{"role": "user", "content": text}]
            text = post(server, "/apply-template", {"messages": messages})["prompt"]
        tokens = post(server, "/tokenize", {"content": text, "add_special": True, "parse_special": True})
        answer = post(server, "/completion", {
            "prompt": text, "n_predict": TOKENS, "temperature": 0.0, "repeat_penalty": 1.0,
            "top_k": 1, "return_tokens": True, "cache_prompt": False, "n_probs": 2,
        })
        # Difference of log probability between the best and the second token. llama.cpp does
        # not report it for tokens that end within a character.
        probabilities, margins = iter(answer.get("completion_probabilities", [])), []
        entry = next(probabilities, None)
        for token in answer["tokens"]:
            if entry and entry["id"] == token:
                best, second = entry["top_logprobs"][:2]
                margins.append(best["logprob"] - second["logprob"])
                entry = next(probabilities, None)
            else:
                margins.append(0.0)
        print(json.dumps({
            "model": Path(path).stem, "prompt": prompt, "rendered": text,
            "prompt_tokens": tokens["tokens"], "evaluated": answer["tokens_evaluated"],
            "answer_tokens": answer["tokens"], "answer": answer["content"],
            "margins": margins,
        }), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        run_model(sys.argv[2], json.load(sys.stdin))
        sys.exit()
    prompts = sys.stdin.read()
    for path in sorted(Path(sys.argv[1]).glob("*.gguf")):
        run = subprocess.run(
            [sys.executable, __file__, "--one", str(path)],
            input=prompts, text=True, capture_output=True, timeout=300,
        )
        sys.stdout.write(run.stdout)
        if run.returncode != 0:
            print(json.dumps({"model": path.stem, "fault": run.stderr[-600:]}))
        sys.stdout.flush()
