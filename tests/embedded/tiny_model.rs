/// Metadata and tensors of a small model, to be changed and written.
#[derive(Clone)]
pub(crate) struct TinyModel {
    pub(crate) keys: Vec<(String, Entry)>,
    pub(crate) tensors: Vec<(String, Vec<u64>, u32)>,
}

/// A metadata value.
#[derive(Clone)]
pub(crate) enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

const SIZE: u64 = 32;
const INNER: u64 = 48;
const KV: u64 = 16;

/// A chat template that prints roles and contents.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}";

impl TinyModel {
    /// Creates a llama with one token per byte, and BOS and EOS tokens.
    pub(crate) fn new() -> Self {
        let plain = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let shifted = (0..256).filter(|byte| !plain(byte)).zip(256..);
        let mut chars: Vec<(u32, u32)> = (0..256).filter(plain).map(|byte| (byte, byte)).collect();
        chars.extend(shifted);
        chars.sort_unstable();
        let mut tokens: Vec<String> = chars
            .iter()
            .map(|(_, code)| char::from_u32(*code).unwrap().to_string())
            .collect();
        tokens.extend(["<s>".to_owned(), "</s>".to_owned()]);
        let mut kinds = vec![1; 256];
        kinds.extend([3, 3]);
        let vocabulary = tokens.len() as u64;
        let text = |text: &str| Entry::Text(text.to_owned());
        let keys = [
            ("general.architecture", text("llama")),
            ("general.name", text("Tiny")),
            ("llama.block_count", Entry::U32(2)),
            ("llama.context_length", Entry::U32(1024)),
            ("llama.embedding_length", Entry::U32(SIZE as u32)),
            ("llama.feed_forward_length", Entry::U32(INNER as u32)),
            ("llama.attention.head_count", Entry::U32(4)),
            ("llama.attention.head_count_kv", Entry::U32(2)),
            ("llama.attention.layer_norm_rms_epsilon", Entry::F32(1e-5)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("qwen2")),
            ("tokenizer.ggml.tokens", Entry::Texts(tokens)),
            ("tokenizer.ggml.token_type", Entry::I32s(kinds)),
            (
                "tokenizer.ggml.merges",
                Entry::Texts(vec!["a b".to_owned()]),
            ),
            ("tokenizer.ggml.bos_token_id", Entry::U32(256)),
            ("tokenizer.ggml.eos_token_id", Entry::U32(257)),
            ("tokenizer.ggml.add_bos_token", Entry::Bool(true)),
            ("tokenizer.chat_template", text(TEMPLATE)),
        ];
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![SIZE, vocabulary], 0)];
        for layer in 0..2 {
            for (name, dims) in [
                ("attn_norm", vec![SIZE]),
                ("attn_q", vec![SIZE, SIZE]),
                ("attn_k", vec![SIZE, KV]),
                ("attn_v", vec![SIZE, KV]),
                ("attn_output", vec![SIZE, SIZE]),
                ("ffn_norm", vec![SIZE]),
                ("ffn_gate", vec![SIZE, INNER]),
                ("ffn_up", vec![SIZE, INNER]),
                ("ffn_down", vec![INNER, SIZE]),
            ] {
                tensors.push((format!("blk.{layer}.{name}.weight"), dims, 0));
            }
        }
        tensors.push(("output_norm.weight".to_owned(), vec![SIZE], 0));
        tensors.push(("output.weight".to_owned(), vec![SIZE, vocabulary], 0));
        Self {
            keys: keys.map(|(key, value)| (key.to_owned(), value)).into(),
            tensors,
        }
    }

    pub(crate) fn set(mut self, key: &str, value: Entry) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self
    }

    /// Returns the bytes of the file. The scores of the special tokens are 0, so that they
    /// are never the best.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key);
            entry(&mut out, value);
        }
        let size = |dims: &[u64]| dims.iter().product::<u64>() * 4;
        let mut offset = 0u64;
        for (name, dims, kind) in &self.tensors {
            text(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += size(dims).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        let mut random = 1u64;
        for (name, dims, _) in &self.tensors {
            for element in 0..size(dims) / 4 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let noise = (random >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                let number = match name.as_str() {
                    name if name.contains("norm") => 1.0,
                    "output.weight" if element >= 256 * SIZE => 0.0,
                    "output.weight" => noise * 8.0,
                    _ => noise,
                };
                out.extend(number.to_le_bytes());
            }
            out.resize(out.len().next_multiple_of(32), 0);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
}

fn entry(out: &mut Vec<u8>, value: &Entry) {
    let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Entry::U32(number) => {
            out.extend(4u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Entry::F32(number) => {
            out.extend(6u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Entry::Bool(yes) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*yes));
        }
        Entry::Text(string) => {
            out.extend(8u32.to_le_bytes());
            text(out, string);
        }
        Entry::Texts(strings) => {
            array(out, 8, strings.len());
            strings.iter().for_each(|string| text(out, string));
        }
        Entry::I32s(numbers) => {
            array(out, 5, numbers.len());
            numbers
                .iter()
                .for_each(|number| out.extend(number.to_le_bytes()));
        }
    }
}
