"""Runs prompts through llama.cpp, for tests/embedded/mod.rs.

    llama_cpp.py FOLDER < prompts.json > answers.jsonl

Every GGUF of the folder is loaded by PyPI's xllamacpp. For each prompt of the
list on stdin a line says which tokens it becomes and which tokens greedy
decoding adds. Each file gets its own process: a file that llama.cpp aborts on
must not take the others with it.
"""

import json
import subprocess
import sys
from pathlib import Path

TOKENS = 32


def one(path, prompts):
    import urllib.request

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 1
    # llama.cpp is slower with more threads than cores, much slower.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.warmup = False
    # The answers must not depend on what was asked before.
    params.cache_prompt = False
    # In full precision: these models are chaotic, and flash attention and the
    # usual 16-bit cache move their scores by some per cent.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)

    def ask(route, body):
        request = urllib.request.Request(
            server.listening_address + route, json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    if Path(path).name.startswith("kernel-"):
        # Large models; what they are asked is about numbers, not about texts.
        prompts = prompts[:3]
    for prompt in prompts:
        text = prompt["text"]
        if prompt["chat"]:
            messages = [{"role": "user", "content": text}]
            text = ask("/apply-template", {"messages": messages})["prompt"]
        tokens = ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        answer = ask("/completion", {
            "prompt": text, "n_predict": TOKENS, "temperature": 0.0, "repeat_penalty": 1.0,
            "top_k": 1, "return_tokens": True, "cache_prompt": False, "n_probs": 2,
        })
        # By how much the best token was better than the second; llama.cpp does
        # not say it of tokens that end within a character.
        known, leads = iter(answer.get("completion_probabilities", [])), []
        at = next(known, None)
        for token in answer["tokens"]:
            if at and at["id"] == token:
                best, second = at["top_logprobs"][:2]
                leads.append(best["logprob"] - second["logprob"])
                at = next(known, None)
            else:
                leads.append(0.0)
        print(json.dumps({
            "model": Path(path).stem, "prompt": prompt, "rendered": text,
            "prompt_tokens": tokens["tokens"], "evaluated": answer["tokens_evaluated"],
            "answer_tokens": answer["tokens"], "answer": answer["content"],
            "leads": leads,
        }), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one(sys.argv[2], json.load(sys.stdin))
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
