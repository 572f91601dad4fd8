//! The files of new packs, and how they are filled in.

use crate::args::{PackKind, PackLanguage};

/// A file of a new pack: its path and its template.
type File = (&'static str, &'static str);

/// Includes a file of the folder `templates`.
macro_rules! template {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path))
    };
}

/// The test file of all languages.
pub(super) const CASES: &str = template!("cases.toml");

const RUST: &[File] = &[
    ("Cargo.toml", template!("rust/manifest.toml")),
    ("README.md", template!("rust/README.md")),
    (".gitignore", template!("rust/gitignore")),
    ("src/lib.rs", template!("rust/lib.rs")),
];

/// The crate `lmstrix-pack`, without its tests.
const RUST_SDK: &[File] = &[
    (
        "lmstrix-pack/Cargo.toml",
        template!("rust/sdk/manifest.toml"),
    ),
    ("lmstrix-pack/wit/prompts.wit", lmstrix_sandbox::CONTRACT),
    (
        "lmstrix-pack/src/catalog.rs",
        template!("rust/sdk/catalog.rs"),
    ),
    (
        "lmstrix-pack/src/component.rs",
        template!("rust/sdk/component.rs"),
    ),
    (
        "lmstrix-pack/src/constructors.rs",
        template!("rust/sdk/constructors.rs"),
    ),
    ("lmstrix-pack/src/files.rs", template!("rust/sdk/files.rs")),
    ("lmstrix-pack/src/lib.rs", template!("rust/sdk/lib.rs")),
    (
        "lmstrix-pack/src/line_buffer.rs",
        template!("rust/sdk/line_buffer.rs"),
    ),
    ("lmstrix-pack/src/pack.rs", template!("rust/sdk/pack.rs")),
    ("lmstrix-pack/src/scan.rs", template!("rust/sdk/scan.rs")),
    (
        "lmstrix-pack/src/suggest.rs",
        template!("rust/sdk/suggest.rs"),
    ),
    (
        "lmstrix-pack/src/testing.rs",
        template!("rust/sdk/testing.rs"),
    ),
];

const JAVASCRIPT: &[File] = &[
    ("package.json", template!("js/package.json")),
    ("README.md", template!("js/README.md")),
    (".gitignore", template!("js/gitignore")),
    ("pack.js", template!("js/pack.js")),
    ("wit/javascript.wit", template!("js/javascript.wit")),
];

const JAVASCRIPT_SDK: &[File] = &[
    ("lmstrix_pack.js", template!("js/lmstrix_pack.js")),
    ("lmstrix_main.js", template!("js/lmstrix_main.js")),
    ("lmstrix_checks.js", template!("js/lmstrix_checks.js")),
];

const PYTHON: &[File] = &[
    ("requirements.txt", template!("python/requirements.txt")),
    ("README.md", template!("python/README.md")),
    (".gitignore", template!("python/gitignore")),
    ("app.py", template!("python/app.py")),
];

const PYTHON_SDK: &[File] = &[
    ("lmstrix_pack.py", template!("python/lmstrix_pack.py")),
    ("lmstrix_exports.py", template!("python/lmstrix_exports.py")),
];

const C: &[File] = &[
    ("package.json", template!("c/package.json")),
    ("README.md", template!("c/README.md")),
    (".gitignore", template!("c/gitignore")),
    ("build.sh", template!("c/build.sh")),
    ("pack.c", template!("c/pack.c")),
];

/// The bindings are those of wit-bindgen; see `templates/c/generate.py`.
const C_SDK: &[File] = &[
    ("sdk/bindings.c", template!("c/sdk/bindings.c")),
    ("sdk/bindings.h", template!("c/sdk/bindings.h")),
    ("sdk/component_type.c", template!("c/sdk/component_type.c")),
    ("sdk/lmstrix_pack.c", template!("c/sdk/lmstrix_pack.c")),
    ("sdk/lmstrix_pack.h", template!("c/sdk/lmstrix_pack.h")),
    ("sdk/pack_text.c", template!("c/sdk/pack_text.c")),
    ("sdk/strip.py", template!("c/sdk/strip.py")),
];

/// Returns the files of a language that are templates, and those that are not.
pub(super) fn files(language: PackLanguage) -> (&'static [File], &'static [File]) {
    match language {
        PackLanguage::Rust => (RUST, RUST_SDK),
        PackLanguage::Js => (JAVASCRIPT, JAVASCRIPT_SDK),
        PackLanguage::Python => (PYTHON, PYTHON_SDK),
        PackLanguage::C => (C, C_SDK),
    }
}

/// The values that are filled in.
pub(super) struct Template<'a> {
    name: &'a str,
    kind: PackKind,
}

impl<'a> Template<'a> {
    pub(super) fn new(name: &'a str, kind: PackKind) -> Self {
        Self { name, kind }
    }

    /// Fills in a template: replaces `{{name}}`, `{{summary}}`, `{{world}}`, and the names of the
    /// crate and its library, `{{crate}}` and `{{library}}`. The lines from
    /// `{{#resolver}}` to `{{/resolver}}` are kept if the pack has a prompt, and those of
    /// `processor` if it has a processor.
    pub(super) fn expand(&self, template: &str) -> String {
        let (has_resolver, has_processor, summary, world) = match self.kind {
            PackKind::Resolver => (true, false, "A pack with one prompt", "resolver-pack"),
            PackKind::Processor => (false, true, "A pack with one processor", "post-pack"),
            PackKind::Both => (
                true,
                true,
                "A pack with one prompt and one processor",
                "pack",
            ),
        };
        // The name of a crate does not start with a digit and has no dot.
        let crate_name = format!("pack-{}", self.name.replace('.', "-"));
        let mut text = String::new();
        let mut is_kept = true;
        for line in template.split_inclusive('\n') {
            match line.trim() {
                "{{#resolver}}" => is_kept = has_resolver,
                "{{#processor}}" => is_kept = has_processor,
                "{{/resolver}}" | "{{/processor}}" => is_kept = true,
                _ if is_kept => text.push_str(line),
                _ => {}
            }
        }
        text.replace("{{name}}", self.name)
            .replace("{{summary}}", summary)
            .replace("{{world}}", world)
            .replace("{{crate}}", &crate_name)
            .replace("{{library}}", &crate_name.replace('-', "_"))
    }
}
