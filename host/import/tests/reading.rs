use std::path::Path;

use lmstrix_import::{Error, Format, Imported, MAX_FILE_BYTES, MAX_FILES, import, read};

fn write(folder: &Path, path: &str, text: &[u8]) {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{error}"));
    }
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{error}"));
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the names and the file names of the sources.
fn names(format: Format, path: &Path) -> Vec<String> {
    let found = read(format, path).unwrap_or_else(|error| panic!("{error}"));
    let name = |source: &lmstrix_import::Source| {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        format!("{} {file}", source.name)
    };
    found.sources.iter().map(name).collect()
}

/// Returns the report with paths relative to `root`.
fn relative(imported: &Imported, root: &Path) -> Vec<String> {
    let report = crate::report(imported).replace(&root.display().to_string(), "");
    report.lines().map(str::to_owned).collect()
}

#[test]
fn fabric_reads_a_pattern_or_all_of_them() {
    let folder = folder();
    let root = folder.path();
    write(root, "a/system.md", b"A");
    write(root, "a/user.md", b"U");
    write(root, "a/README.md", b"-");
    write(root, "b/system.md", b"B");
    write(root, "c/user.md", b"-");
    let all = ["a system.md", "a user.md", "b system.md"];
    assert_eq!(names(Format::Fabric, root), all);
    assert_eq!(names(Format::Fabric, &root.join("a")), all[..2]);
    assert_eq!(names(Format::Fabric, &root.join("a/system.md")), all[..2]);
    assert_eq!(names(Format::Fabric, &root.join("b/../b/.")), all[2..]);
    assert_eq!(
        names(Format::Fabric, &root.join("a/README.md")),
        ["README README.md"]
    );
}

#[test]
fn other_formats_read_files_by_extension() {
    let folder = folder();
    let root = folder.path();
    for path in [
        "b.yaml",
        "a.yml",
        "x.prompty",
        "s/y.prompty",
        "p.prompt",
        "_q.prompt",
        "s/_r.prompt",
        "s/t/u.v.prompt",
        "yaml",
        ".git/hidden.prompt",
        "node_modules/x/y.prompty",
        "s/z.yaml",
    ] {
        write(root, path, b"x");
    }
    assert_eq!(names(Format::Llm, root), ["a a.yml", "b b.yaml"]);
    assert_eq!(names(Format::Llm, &root.join("b.yaml")), ["b b.yaml"]);
    assert_eq!(
        names(Format::Prompty, root),
        ["s/y y.prompty", "x x.prompty"]
    );
    assert_eq!(
        names(Format::Dotprompt, root),
        [
            "_q _q.prompt",
            "p p.prompt",
            "s/_r _r.prompt",
            "s/t/u.v u.v.prompt"
        ]
    );
    assert_eq!(
        names(Format::Dotprompt, &root.join("p.prompt")),
        ["_q _q.prompt", "p p.prompt"]
    );
}

#[test]
fn unreadable_files_do_not_stop_the_import() {
    let folder = folder();
    let root = folder.path();
    write(root, "good.yaml", b"hello");
    write(root, "binary.yaml", b"\xff\xfe\x00");
    let size = usize::try_from(MAX_FILE_BYTES).unwrap();
    write(root, "large.yaml", &vec![b'a'; size + 1]);
    write(root, "limit.yaml", &vec![b'a'; size]);
    std::fs::create_dir(root.join("folder.yaml")).unwrap();
    let imported = import(Format::Llm, root).unwrap();
    assert_eq!(imported.prompts, ["good", "limit"]);
    let notes = relative(&imported, root);
    assert_eq!(
        notes,
        [
            "/binary.yaml: binary skipped: not UTF-8",
            "/large.yaml: large skipped: larger than 1 MiB"
        ]
    );
}

#[test]
fn unreadable_parts_do_not_skip_a_prompt() {
    let folder = folder();
    let root = folder.path();
    write(root, "fabric/a/system.md", b"A");
    write(root, "fabric/a/user.md", b"\xff");
    let imported = import(Format::Fabric, &root.join("fabric")).unwrap();
    assert_eq!(imported.prompts, ["a"]);
    assert_eq!(
        relative(&imported, root),
        ["/fabric/a/user.md: `user.md` is left out: not UTF-8"]
    );
    assert!(!imported.notes.iter().any(lmstrix_import::Note::is_skipped));
    write(root, "dotprompt/p.prompt", b"A");
    write(root, "dotprompt/q.prompt", b"{{>s/x}}");
    write(root, "dotprompt/s/_x.prompt", b"\xff");
    let imported = import(Format::Dotprompt, &root.join("dotprompt")).unwrap();
    assert_eq!(imported.prompts, ["p"]);
    assert_eq!(
        relative(&imported, root),
        [
            "/dotprompt/s/_x.prompt: the partial `s/x` cannot be read: not UTF-8",
            "/dotprompt/q.prompt:1: q skipped: no partial `s/x`",
        ]
    );
}

#[test]
fn parts_are_not_prompts() {
    let folder = folder();
    let root = folder.path();
    write(root, "a/user.md", b"A");
    write(root, "_x.prompt", b"A");
    for (format, path, expected) in [
        (
            Format::Fabric,
            "a/user.md",
            "`/a/user.md` is part of a pattern; import the folder of the pattern",
        ),
        (
            Format::Dotprompt,
            "_x.prompt",
            "`/_x.prompt` is a partial; import the prompt that uses it",
        ),
        (
            Format::Dotprompt,
            "",
            "no `.prompt` files other than partials in `/`",
        ),
    ] {
        let error = import(format, &root.join(path)).unwrap_err().to_string();
        assert_eq!(error.replace(&root.display().to_string(), ""), expected);
    }
}

#[test]
fn a_prompt_in_a_large_folder_can_be_imported() {
    let folder = folder();
    let root = folder.path();
    for number in 0..=MAX_FILES {
        write(root, &format!("{number}.prompt"), b"x");
    }
    write(root, "_x.prompt", b"X");
    let path = root.join("1.prompt");
    let expected = ["1 1.prompt", "_x _x.prompt"];
    assert_eq!(names(Format::Dotprompt, &path), expected);
    let error = import(Format::Dotprompt, root).unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn links_to_patterns_are_read() {
    let folder = folder();
    let root = folder.path();
    write(root, "elsewhere/system.md", b"A");
    write(root, "patterns/a/system.md", b"A");
    std::os::unix::fs::symlink("../elsewhere", root.join("patterns/b")).unwrap();
    std::os::unix::fs::symlink("..", root.join("patterns/up")).unwrap();
    assert_eq!(
        names(Format::Fabric, &root.join("patterns")),
        ["a system.md", "b system.md"]
    );
}

#[cfg(unix)]
#[test]
fn pipes_and_loops_of_links_are_not_followed() {
    let folder = folder();
    let root = folder.path();
    write(root, "a/x.prompty", b"---\n---\nuser:\nHello");
    std::os::unix::fs::symlink("..", root.join("a/up")).unwrap();
    std::os::unix::fs::symlink("x.prompty", root.join("a/link.prompty")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.join("a/zero.prompty")).unwrap();
    let imported = import(Format::Prompty, root).unwrap();
    assert_eq!(imported.prompts, ["a-link", "a-x"]);
    let skipped = imported.notes.iter().filter(|note| note.is_skipped());
    let messages: Vec<&str> = skipped.map(|note| note.message.as_str()).collect();
    assert_eq!(messages, ["not a regular file"]);
    let error = import(Format::Llm, Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(error, Error::NotAFile(_)), "{error}");
}

#[test]
fn errors_name_the_path() {
    let folder = folder();
    let root = folder.path().display().to_string();
    for (format, expected) in [
        (
            Format::Fabric,
            "no `system.md` or `NAME/system.md` in `ROOT`",
        ),
        (Format::Llm, "no `.yaml` files in `ROOT`"),
        (Format::Prompty, "no `.prompty` files in `ROOT`"),
        (
            Format::Dotprompt,
            "no `.prompt` files other than partials in `ROOT`",
        ),
    ] {
        let error = import(format, folder.path()).unwrap_err().to_string();
        assert_eq!(error.replace(&root, "ROOT"), expected);
    }
    let error = import(Format::Llm, &folder.path().join("missing.yaml")).unwrap_err();
    assert!(error.to_string().contains("missing.yaml"), "{error}");
    assert_eq!(
        "yaml".parse::<Format>().unwrap_err().to_string(),
        "unknown format `yaml`; the formats are `fabric`, `llm`, `prompty` and `dotprompt`"
    );
    assert_eq!("llm".parse::<Format>().unwrap(), Format::Llm);
}
