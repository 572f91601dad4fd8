use lmstrix_host::engine::embedded::ModelFile;
use lmstrix_host::inference::{Layer, MaxTokens, Origin, Prompt, settle};
use std::time::Instant;
#[test]
#[ignore]
fn speed() {
    let path = std::env::var("GGUF").unwrap();
    let t = Instant::now();
    let file = ModelFile::open(std::path::Path::new(&path)).unwrap();
    println!(
        "open {:?} params {} {} {}",
        t.elapsed(),
        file.parameters(),
        file.quantization(),
        file.context_length()
    );
    let t = Instant::now();
    let mut model = file.load(4096).unwrap();
    println!("load {:?}", t.elapsed());
    let words = std::env::var("WORDS")
        .ok()
        .and_then(|w| w.parse().ok())
        .unwrap_or(40usize);
    let prompt = Prompt::Raw("the cat sat on a mat, ".repeat(words));
    for (t0, n) in [(0.0, 1), (0.0, 200), (0.8, 200)] {
        let layer = Layer {
            temperature: Some(t0),
            max_tokens: Some(MaxTokens::Tokens(n)),
            ..Layer::default()
        };
        let t = Instant::now();
        let mut model2 = &mut model;
        let o = model2
            .infer(
                &prompt,
                &settle(&[(Origin::Flag, layer)]),
                &|| false,
                &mut |_| (),
            )
            .unwrap();
        println!("t={t0} {:?} {:?}", t.elapsed(), o.usage);
    }
}
