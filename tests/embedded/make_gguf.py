"""Writes small GGUF files with random weights, for tests/embedded/mod.rs.

    make_gguf.py FOLDER    writes every file of MODELS and VARIANTS below to FOLDER

The files are the same on every run. The weights are scaled so that the best token is clearly
the best, so that rounding in a different order of computation does not change it. Requires
PyPI's gguf and numpy.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

# Text on which tokenizers differ: words in several cases, groups of digits, contractions,
# runs of blanks, other scripts.
TEXTS = """
The quick brown fox doesn't jump over the lazy dog's 12345 friends; they've
seen 2026-11-23 and 3.14159, haven't they? I'll say we're DON'T You'RE HELLO
world    with   many  blanks and\ttabs\t\tand

lines

    indented = call(arg_one, arg2) // comment == 100000 != 7
naïve café über Straße Ærøskøbing façade coöperate Łódź
Привет, как дела? Сегодня 25 градусов. Γειά σου Κόσμε
你好，世界！今天天气很好。日本語のテキストです。カタカナもある。안녕하세요 세계
مرحبا بالعالم ١٢٣ नमस्ते दुनिया १२३ שלום עולם
🦀🎉👩‍👩‍👧 emoji 👍🏽 and ½ ² ③ № ™ … – — “quotes” ‘single’
CamelCaseWord snake_case_word kebab-case-word HTTPServer iPhone's x=1+2*3/4
hello hello hello hello there there there the the the and and and of of to to
"""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + CHATML


def byte_chars():
    """Returns the printable character of each byte in byte-level tokenizers."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    chars, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            chars[byte] = chr(byte)
        else:
            chars[byte] = chr(256 + extra)
            extra += 1
    return chars


def byte_pairs(merge_count, whole_words):
    """Returns tokens and merges learned from TEXTS, most frequent pair first.

    The text is split at line ends only, more coarsely than by any tokenizer, so that merges
    cross every boundary that a wrong splitting rule would miss.
    """
    chars = byte_chars()
    words = [
        [chars[byte] for byte in line.encode()]
        for line in TEXTS.split("\n")
        for line in [line + "\n"]
    ]
    merges, tokens = [], sorted(chars.values())
    for _ in range(merge_count):
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                if len(pair[0] + pair[1]) <= 12:
                    counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(" ".join(best))
        tokens.append("".join(best))
        for index, word in enumerate(words):
            out, at = [], 0
            while at < len(word):
                if tuple(word[at : at + 2]) == best:
                    out.append("".join(best))
                    at += 2
                else:
                    out.append(word[at])
                    at += 1
            words[index] = out
    tokens = list(dict.fromkeys(tokens))
    # Words that are tokens but cannot be reached by merges: only tokenizers that look up
    # whole words find them.
    for word in whole_words:
        token = "".join(chars[byte] for byte in word.encode())
        if token not in tokens:
            tokens.append(token)
    return tokens, merges


def add_byte_pairs(writer, pre, random):
    tokens, merges = byte_pairs(420, ["Ġquick", "fox", " градусов", "世界", "12345"])
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for special, kind in [
        ("<|begin|>", gguf.TokenType.CONTROL),
        ("<|endoftext|>", gguf.TokenType.CONTROL),
        ("<|im_start|>", gguf.TokenType.CONTROL),
        ("<|im_end|>", gguf.TokenType.CONTROL),
        ("<|im_end|>\n", gguf.TokenType.USER_DEFINED),
        ("<tool>", gguf.TokenType.USER_DEFINED),
        ("  <tool>", gguf.TokenType.USER_DEFINED),
        ("<unused0>", gguf.TokenType.UNUSED),
    ]:
        tokens.append(special)
        kinds.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index("<|begin|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    return tokens, kinds


def add_sentence_pieces(writer, pre, random):
    space = "\u2581"
    pieces = {}
    for line in TEXTS.split("\n"):
        line = space + line.replace(" ", space)
        for start in range(len(line)):
            for length in range(1, 7):
                piece = line[start : start + length]
                if piece and "\t" not in piece:
                    pieces[piece] = pieces.get(piece, 0) + 1
    single = sorted(piece for piece in pieces if len(piece) == 1)
    # Omit some characters, so that byte tokens are needed.
    single = [piece for piece in single if piece not in "世🎉ß"]
    longer = sorted((p for p in pieces if len(p) > 1), key=lambda p: (-pieces[p] * len(p), p))
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256
    scores = [0.0] * len(tokens)
    for rank, piece in enumerate(longer[:500] + single):
        tokens.append(piece)
        kinds.append(gguf.TokenType.NORMAL)
        # Equal scores on purpose: then the leftmost pair is merged first.
        scores.append(-float(rank // 3))
    for special, kind in [
        ("<|im_start|>", gguf.TokenType.CONTROL),
        ("<|im_end|>", gguf.TokenType.CONTROL),
        ("<tool>", gguf.TokenType.USER_DEFINED),
    ]:
        tokens.append(special)
        kinds.append(kind)
        scores.append(0.0)
    writer.add_tokenizer_model("llama")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_unk_token_id(0)
    return tokens, kinds


K_BLOCKS = {
    # Bytes per block, and the offsets and relative values of its float16 scales. The second
    # scale, if any, is that of the minimum, chosen so that the values are around zero.
    gguf.GGMLQuantizationType.Q2_K: (84, {80: 1.0, 82: 1.5}),
    gguf.GGMLQuantizationType.Q3_K: (110, {108: 1.0}),
    gguf.GGMLQuantizationType.Q4_K: (144, {0: 1.0, 2: 7.5}),
    gguf.GGMLQuantizationType.Q5_K: (176, {0: 1.0, 2: 15.5}),
    gguf.GGMLQuantizationType.Q6_K: (210, {208: 1.0}),
}


def random_k_blocks(matrix, kind, random):
    """Returns random blocks with the same standard deviation as matrix.

    gguf cannot quantize to these types.
    """
    rows, row = matrix.shape
    size, scales = K_BLOCKS[kind]
    blocks = random.integers(0, 256, (rows, row // 256, size), dtype=np.uint8)

    def scaled(factor):
        for at, relation in scales.items():
            scale = np.float16(factor * relation)
            blocks[:, :, at : at + 2] = np.frombuffer(scale.tobytes(), np.uint8)
        return blocks.reshape(rows, -1)

    spread = gguf.quants.dequantize(scaled(1e-3), kind).std()
    return scaled(1e-3 * matrix.std() / spread)


class Model:
    def __init__(self, name, architecture, pre, kind="F32", template=CHATML, seed=1, **more):
        self.name, self.architecture, self.pre = name, architecture, pre
        self.kind, self.template, self.seed, self.more = kind, template, seed, more

    def write(self, folder):
        more = dict(self.more)
        random = np.random.default_rng(self.seed)
        size = more.pop("size", 64)
        heads, kv_heads = more.pop("heads", (4, 2))
        head = more.pop("head", size // heads)
        layers, inner = more.pop("layers", 2), more.pop("inner", 2 * size)
        context = more.pop("context", 2048)
        add_bos = more.pop("add_bos", None)
        tied = more.pop("tied", False)
        base = more.pop("base", 10000.0)
        biases = more.pop("biases", self.architecture == "qwen2")
        sharp = 1.0 if more.pop("calm", False) else 2.0
        factors, scaling = more.pop("factors", False), more.pop("scaling", None)
        assert not more, more

        writer = gguf.GGUFWriter(str(folder / f"{self.name}.gguf"), self.architecture)
        writer.add_name(self.name)
        writer.add_description("random weights, for tests")
        writer.add_license("MIT")
        writer.add_block_count(layers)
        writer.add_context_length(context)
        writer.add_embedding_length(size)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(base)
        writer.add_rope_dimension_count(head)
        if head != size // heads:
            writer.add_key_length(head)
            writer.add_value_length(head)
        if scaling:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(scaling)
        add = add_sentence_pieces if self.pre.startswith("spm") else add_byte_pairs
        tokens, kinds = add(writer, self.pre.removeprefix("spm"), random)
        writer.add_vocab_size(len(tokens))
        if add_bos is not None:
            writer.add_add_bos_token(add_bos)
        if self.template:
            writer.add_chat_template(self.template)
        kind = gguf.GGMLQuantizationType[self.kind]
        file_types = {
            "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q5_0": 8, "Q2_K": 10,
            "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18,
        }
        writer.add_file_type(file_types[self.kind])
        writer.add_quantization_version(2)

        def plain(name, *shape, mean=0.0, spread=1.0):
            values = random.standard_normal(shape) * spread + mean
            writer.add_tensor(name, values.astype(np.float32))

        def matrix(name, rows, row, spread, boost=None):
            values = (random.standard_normal((rows, row)) * spread).astype(np.float32)
            if boost is not None:
                values *= boost[:, None]
            if kind in K_BLOCKS:
                writer.add_tensor(name, random_k_blocks(values, kind, random), raw_dtype=kind)
            elif kind == gguf.GGMLQuantizationType.F32:
                writer.add_tensor(name, values)
            else:
                writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

        # Make special and unused tokens unlikely, so that answers are long.
        likely = np.array(
            [1.0 if kind in (gguf.TokenType.NORMAL, gguf.TokenType.BYTE) else 0.01 for kind in kinds]
        )
        matrix("token_embd.weight", len(tokens), size, 1.0, likely if tied else None)
        if factors:
            writer.add_tensor(
                "rope_freqs.weight", np.linspace(1.0, 8.0, head // 2).astype(np.float32)
            )
        for index in range(layers):
            at = f"blk.{index}."
            plain(at + "attn_norm.weight", size, mean=1.0, spread=0.1)
            # Sharp attention, so that positions and masks matter; less sharp ("calm") for
            # types for which the engines round differently.
            matrix(at + "attn_q.weight", heads * head, size, sharp / size**0.5)
            matrix(at + "attn_k.weight", kv_heads * head, size, sharp / size**0.5)
            matrix(at + "attn_v.weight", kv_heads * head, size, sharp / size**0.5)
            matrix(at + "attn_output.weight", size, heads * head, sharp / size**0.5)
            if biases:
                plain(at + "attn_q.bias", heads * head, spread=0.5)
                plain(at + "attn_k.bias", kv_heads * head, spread=0.5)
                plain(at + "attn_v.bias", kv_heads * head, spread=0.5)
            if self.architecture == "qwen3":
                plain(at + "attn_q_norm.weight", head, mean=1.5, spread=0.1)
                plain(at + "attn_k_norm.weight", head, mean=1.5, spread=0.1)
            plain(at + "ffn_norm.weight", size, mean=1.0, spread=0.1)
            matrix(at + "ffn_gate.weight", inner, size, 0.75 * sharp / size**0.5)
            matrix(at + "ffn_up.weight", inner, size, 0.75 * sharp / size**0.5)
            matrix(at + "ffn_down.weight", size, inner, 0.75 * sharp / inner**0.5)
        plain("output_norm.weight", size, mean=1.0, spread=0.1)
        if not tied:
            matrix("output.weight", len(tokens), size, 1.0, likely)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


RULES = [
    "llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "qwen2", "deepseek-r1-qwen",
    "stablelm2", "gpt-2", "olmo", "smollm", "starcoder", "refact", "command-r", "tekken",
    "deepseek-v3", "default", "spm",
]
# Every combination that could be supported. The test only reports files that the engine does
# not support.
MODELS = [
    Model(f"{architecture}-{pre}", architecture, pre, **more)
    for architecture, more in [
        ("llama", {}),
        ("qwen2", {"base": 1e6}),
        ("qwen3", {"base": 1e6, "head": 32}),
    ]
    for pre in RULES
]
# Other properties of files, all with a supported tokenizer.
VARIANTS = [
    Model("tied", "llama", "qwen2", tied=True, kind="F16"),
    Model("spm-bos", "llama", "spmdefault", template=WITH_BOS),
    Model("bos", "llama", "llama-bpe", template=WITH_BOS),
    Model("factors", "llama", "llama-bpe", factors=True, base=500000.0),
    Model("linear", "llama", "qwen2", scaling=4.0),
    Model("biases", "llama", "qwen2", biases=True, heads=(4, 4)),
    Model("plain-q8_0", "llama", "qwen2", kind="Q8_0", calm=True),
    Model("plain-bf16", "qwen3", "qwen2", kind="BF16", calm=True),
    # Large enough for candle's quantized matrices.
    *(
        Model(f"kernel-{kind.lower()}", architecture, "qwen2", kind=kind, size=512, inner=2048,
              heads=(8, 4), calm=True)
        for kind, architecture in [
            ("Q4_0", "llama"), ("Q5_0", "qwen2"), ("Q8_0", "qwen3"), ("Q2_K", "llama"),
            ("Q3_K", "qwen2"), ("Q4_K", "qwen3"), ("Q5_K", "llama"), ("Q6_K", "qwen2"),
        ]
    ),
    Model("bos-off", "llama", "llama-bpe", add_bos=False),
    Model("no-template", "llama", "qwen2", template=None),
]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS + VARIANTS:
        model.write(folder)
