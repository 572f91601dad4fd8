use std::path::Path;

use lmstrix_gguf::{Error, ModelFile};
use lmstrix_inference::{MaxTokens, Origin, Prompt, Settings, SettingsLayer};

use super::tiny_model::{Entry, TinyModel};

/// Opens, loads and runs a model file. An error is allowed, a panic is not.
fn exercise_model(name: &str, bytes: &[u8]) -> Result<(), Error> {
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
    let settings = Settings::resolve(&[(Origin::Flag, &layer)]);
    let prompt = Prompt::Raw("ab <s>".into());
    model
        .infer(&prompt, &settings, &|| false, &mut |_| ())
        .map(|_| ())
}

#[test]
fn a_file_truncated_at_any_length_is_an_error() {
    let whole = TinyModel::new().bytes();
    assert!(exercise_model("whole", &whole).is_ok());
    let header = whole
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap()
        + 60;
    // Every length in the header, and some lengths in the tensor data.
    for length in (0..header).chain((header..whole.len()).step_by(997)) {
        let truncated: &'static [u8] = whole[..length].to_vec().leak();
        let error = ModelFile::from_bytes("truncated", truncated).unwrap_err();
        assert!(
            matches!(error, Error::NotGguf { .. } | Error::InvalidFile { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn overlapping_tensors_are_rejected() {
    let mut bytes = TinyModel::new().bytes();
    let name = bytes
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap();
    // After the name: the number of dimensions, two dimensions, the type, the offset.
    let offset = name + 13 + 4 + 2 * 8 + 4;
    bytes[offset..offset + 8].fill(0);
    // Each tensor is inside the file, but their total size is larger than the file.
    bytes.truncate(bytes.len() - 1024);
    let error = ModelFile::from_bytes("shared", bytes.leak()).unwrap_err();
    assert!(error.to_string().contains("together"), "{error}");
}

#[test]
fn a_changed_byte_in_the_header_never_panics() {
    let whole = TinyModel::new().bytes();
    let header = whole
        .windows(13)
        .rposition(|bytes| bytes == b"output.weight")
        .unwrap()
        + 60;
    for index in 0..header {
        // Skip the middle of the token list, where all entries are alike.
        if (1500..3500).contains(&index) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[index] = if index % 2 == 0 { 0xff } else { 0 };
        let _ = exercise_model("flipped", &bytes);
    }
}

#[test]
fn inconsistent_metadata_is_an_error() {
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
        let bytes = TinyModel::new().set(key, value).bytes();
        assert!(exercise_model("inconsistent", &bytes).is_err(), "{key}");
    }
}

#[test]
fn files_that_are_not_models_are_rejected_with_the_reason() {
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
fn nan_scores_are_an_error() {
    let mut bytes = TinyModel::new().bytes();
    let end = bytes.len();
    for number in bytes[end - 258 * 32 * 4..].as_chunks_mut::<4>().0 {
        *number = f32::NAN.to_le_bytes();
    }
    let error = exercise_model("nan", &bytes).unwrap_err();
    assert!(error.to_string().contains("not numbers"), "{error}");
}
