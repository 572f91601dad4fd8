"""Prints what llama.cpp computes at each position of a text, for tests/embedded/trained_model.rs.

    llama_cpp_logits.py FILE POSITIONS < text > positions.jsonl

The first line is the list of the text's tokens. Each further line is, for one more token of the
text, a list of the most probable next tokens with their log probabilities.
"""

import json
import sys

from llama_cpp import post, start

# The compared tokens of each position.
TOP = 50


def main():
    server = start(sys.argv[1])
    text = sys.stdin.read()
    tokens = post(server, "/tokenize", {"content": text, "add_special": True})["tokens"]
    tokens = tokens[: int(sys.argv[2])]
    print(json.dumps(tokens))
    for count in range(1, len(tokens) + 1):
        answer = post(server, "/completion", {
            "prompt": tokens[:count], "n_predict": 1, "n_probs": TOP, "cache_prompt": True,
            "temperature": 0.0,
        })
        top = answer["completion_probabilities"][0]["top_logprobs"]
        print(json.dumps([[entry["id"], entry["logprob"]] for entry in top]))


if __name__ == "__main__":
    main()
