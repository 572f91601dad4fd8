"""Writes a checkpoint as a GGUF file.

    python export.py --work FOLDER --checkpoint latest.pkl --out demo.gguf [--type q8_0|f16]
"""

import argparse
import pickle
from pathlib import Path

import gguf
import numpy as np

import bpe
import chat

NAME = "Demo first sentence"
DESCRIPTION = "Tiny demo model: answers with the first sentence of the text it is given."


def add_metadata(writer, config, file_type):
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license("MIT")
    writer.add_languages(["en"])
    writer.add_float32(gguf.Keys.General.SAMPLING_TEMP, 0.0)
    writer.add_float32(gguf.Keys.General.SAMPLING_PENALTY_REPEAT, 1.0)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocabulary)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.heads)
    writer.add_rope_dimension_count(config.width // config.heads)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.epsilon)


def add_tokenizer(writer, tokenizer):
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(
        [control if token in bpe.SPECIAL else normal for token in tokenizer.tokens]
    )
    writer.add_token_merges([" ".join(merge) for merge in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids[bpe.END_OF_TEXT])
    writer.add_eos_token_id(tokenizer.ids[bpe.IM_END])
    writer.add_pad_token_id(tokenizer.ids[bpe.END_OF_TEXT])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(chat.TEMPLATE)


def add_tensors(writer, weights, quantization):
    def add(name, array):
        array = np.asarray(array, np.float32)
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            stored = gguf.quantize(np.ascontiguousarray(array), quantization)
            writer.add_tensor(name, stored, raw_dtype=quantization)

    add("token_embd.weight", weights["token_embd"])
    add("output_norm.weight", weights["output_norm"])
    for index, layer in enumerate(weights["layers"]):
        for name, array in layer.items():
            add(f"blk.{index}.{name}.weight", np.asarray(array).T)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", type=Path, required=True, help="folder with the checkpoint")
    arguments.add_argument("--checkpoint", default="final.pkl")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--type", choices=["q8_0", "f16"], default="q8_0")
    options = arguments.parse_args()

    stored = pickle.loads(options.work.joinpath(options.checkpoint).read_bytes())
    tokenizer = bpe.Tokenizer.load(options.work / "merges.json")
    quantization = gguf.GGMLQuantizationType[options.type.upper()]
    file_type = gguf.LlamaFileType[f"MOSTLY_{options.type.upper()}"]

    writer = gguf.GGUFWriter(options.out, "llama")
    add_metadata(writer, stored["config"], file_type)
    add_tokenizer(writer, tokenizer)
    add_tensors(writer, stored["weights"], quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(options.out, options.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
