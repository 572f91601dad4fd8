use std::path::Path;

use lmstrix_host::engine::embedded::{Error, ModelFile};
use lmstrix_host::inference::{MaxTokens, Origin, Prompt, SettingsLayer, resolve_settings};

use super::tiny::{Entry, Tiny};

/// Does with a file whatever can be done with it; only panics are wrong.
fn try_all(name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.gguf"));
    std::fs::write(&path, bytes).unwrap();
    let file = ModelFile::open(&path)?;
    let _ = (
        file.parameter_count(),
        file.quantization(),
        file.recommended_settings(),
    );
    let _ = file.kv_cache_bytes_per_token();
    let mut model = file.load(64)?;
    let layer = SettingsLayer {
        max_tokens: Some(MaxTokens::Tokens(3)),
        seed: Some(1),
        ..SettingsLayer::default()
    };
    let settings = resolve_settings(&[(Origin::Flag, &layer)]);
    let prompt = Prompt::Raw("ab <s>".into());
    model
        .infer(&prompt, &settings, &|| false, &mut |_| ())
        .map(|_| ())
}

#[test]
fn every_cut_is_an_error() {
    let whole = Tiny::new().bytes();
    assert!(try_all("whole", &whole).is_ok());
    let header = whole
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap()
        + 60;
    // Every length of the header, and some of what follows.
    for length in (0..header).chain((header..whole.len()).step_by(997)) {
        let cut: &'static [u8] = whole[..length].to_vec().leak();
        let error = ModelFile::from_bytes("cut", cut).unwrap_err();
        assert!(
            matches!(error, Error::NotGguf { .. } | Error::InvalidFile { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn tensors_that_share_their_bytes_are_refused() {
    let mut bytes = Tiny::new().bytes();
    let name = bytes
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap();
    // The name, the number of dimensions, two of them, the type; the offset.
    let offset = name + 13 + 4 + 2 * 8 + 4;
    bytes[offset..offset + 8].fill(0);
    // Each tensor lies inside the file; all of them together do not.
    bytes.truncate(bytes.len() - 1024);
    let error = ModelFile::from_bytes("shared", bytes.leak()).unwrap_err();
    assert!(error.to_string().contains("together"), "{error}");
}

#[test]
fn no_flipped_byte_panics() {
    let whole = Tiny::new().bytes();
    let header = whole
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap()
        + 60;
    for index in 0..header {
        // The middle of the long list of tokens is the same everywhere.
        if (1500..3500).contains(&index) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[index] = if index % 2 == 0 { 0xff } else { 0 };
        let _ = try_all("flipped", &bytes);
    }
}

#[test]
fn sizes_that_lie_are_errors() {
    for (key, value) in [
        ("general.alignment", Entry::U32(0)),
        ("general.alignment", Entry::U32(u32::MAX)),
        ("llama.block_count", Entry::U32(0)),
        ("llama.block_count", Entry::U32(3)),
        ("llama.block_count", Entry::U32(u32::MAX)),
        ("llama.embedding_length", Entry::U32(31)),
        ("llama.attention.head_count", Entry::U32(0)),
        ("llama.attention.head_count", Entry::U32(3)),
        ("llama.attention.head_count_kv", Entry::U32(8)),
        ("llama.feed_forward_length", Entry::Text("many".into())),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Entry::F32(f32::NAN),
        ),
        ("llama.rope.freq_base", Entry::F32(0.0)),
        ("llama.rope.scaling.factor", Entry::F32(-1.0)),
        ("llama.context_length", Entry::U32(0)),
        ("tokenizer.ggml.tokens", Entry::Texts(Vec::new())),
        ("tokenizer.ggml.tokens", Entry::Texts(vec!["x".into(); 300])),
        ("tokenizer.ggml.token_type", Entry::I32s(vec![1])),
        ("tokenizer.ggml.merges", Entry::Texts(vec!["ab".into()])),
        ("tokenizer.ggml.merges", Entry::Bool(false)),
    ] {
        let bytes = Tiny::new().set(key, value).bytes();
        assert!(try_all("lie", &bytes).is_err(), "{key}");
    }
}

#[test]
fn what_is_no_model_is_said() {
    let error = ModelFile::from_bytes("x", b"PK\x03\x04 a zip file").unwrap_err();
    assert_eq!(error.to_string(), "`x` is not a GGUF file");
    let error = ModelFile::from_bytes("x", b"GGUF\x00\x00\x00\x03").unwrap_err();
    assert!(error.to_string().contains("version 0x3000000"), "{error}");
    let error = ModelFile::open(Path::new("no/such.gguf")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    let error = ModelFile::open(Path::new(".")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
}

#[test]
fn scores_that_are_no_numbers_are_an_error() {
    let mut bytes = Tiny::new().bytes();
    let end = bytes.len();
    for number in bytes[end - 258 * 32 * 4..].as_chunks_mut::<4>().0 {
        *number = f32::NAN.to_le_bytes();
    }
    let error = try_all("nan", &bytes).unwrap_err();
    assert!(error.to_string().contains("not numbers"), "{error}");
}
