//! Files, folders and URLs as sources.

use crate::guests::component;
use crate::servers::scripted::{ScriptedServer, Step};
use crate::support::Machine;

use super::{PROMPT_FILE, paths, sha256, tree, write_pack};

/// Returns the lock file of the folder `packs`.
fn lock_file(machine: &Machine) -> toml::Table {
    toml::from_str(&machine.read("packs/packs.lock")).unwrap()
}

#[test]
fn a_pack_travels_with_its_files_and_is_recorded() {
    let machine = Machine::new();
    write_pack(&machine, "dist");
    machine.write("dist/glossary/not text.bin", [0xff, 0xfe]);
    let run = machine.run(&["pack", "add", "dist/glossary.wasm", "--pack-dir", "packs"]);
    assert_eq!(run.ok(), "glossary\n");
    assert!(run.stderr.contains("added glossary (sha256:"), "{run:?}");
    assert!(
        run.stderr
            .contains("not text.bin` is not passed to the pack: not UTF-8"),
        "{run:?}"
    );
    let expected = [
        "glossary.csv",
        "glossary.wasm",
        "glossary/more.csv",
        "packs.lock",
    ];
    assert_eq!(paths(&machine.work().join("packs")), expected);
    let lock_file = lock_file(&machine);
    let pack = &lock_file["pack"][0];
    assert_eq!(pack["name"].as_str(), Some("glossary"));
    assert_eq!(pack["source"].as_str(), Some("../dist/glossary.wasm"));
    // The digest of several files can be computed without this program.
    let mut list = String::new();
    for path in ["glossary.csv", "glossary.wasm", "glossary/more.csv"] {
        let digest = sha256(&std::fs::read(machine.work().join("dist").join(path)).unwrap());
        assert_eq!(pack["files"][path].as_str(), Some(digest.as_str()));
        list += &format!("{}  {path}\n", digest.strip_prefix("sha256:").unwrap());
    }
    assert_eq!(
        pack["digest"].as_str(),
        Some(sha256(list.as_bytes()).as_str())
    );
    let shown = machine.run(&["pack", "show", "glossary"]);
    assert!(
        shown.ok().contains(pack["digest"].as_str().unwrap()),
        "{shown:?}"
    );
    // The same command again changes nothing.
    let before = tree(&machine.work());
    let again = machine.run(&["pack", "add", "dist/glossary.wasm", "--pack-dir", "packs"]);
    again.ok();
    assert!(again.stderr.contains("unchanged glossary"), "{again:?}");
    assert_eq!(tree(&machine.work()), before);
}

#[test]
fn all_packs_of_a_folder_are_added_and_one_that_cannot_be_costs_no_other() {
    let machine = Machine::new();
    write_pack(&machine, "theirs");
    machine.write("theirs/adam.toml", PROMPT_FILE);
    machine.write("theirs/bad.wasm", "no component");
    machine.write("theirs/wrong.toml", "[greet]\nprompt = 1\n");
    let run = machine.run(&["pack", "add", "theirs"]);
    assert_eq!((run.code, run.text()), (Some(3), "adam\nglossary\n"));
    for failure in [
        "cannot load pack `bad`: not a WebAssembly file",
        "pack `wrong`: wrong.toml:2:10: ",
    ] {
        assert!(run.stderr.contains(failure), "{run:?}");
    }
    let added = paths(&machine.home().join("data/packs"));
    let expected = [
        "adam.toml",
        "glossary.csv",
        "glossary.wasm",
        "glossary/more.csv",
        "packs.lock",
    ];
    assert_eq!(added, expected);
    machine
        .run(&["render", "adam/greet", "-p", "name=Ada", "--locked"])
        .ok();
    let run = machine.run(&["pack", "add", "theirs", "--name", "other"]);
    assert!(
        run.fails(2)
            .contains("is a folder, and --name and --digest are for one pack")
    );
}

#[test]
fn another_pack_is_replaced_by_force_only() {
    let machine = Machine::new();
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.write("b/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    machine.write("b/adam/more.txt", "more");
    machine
        .run(&["pack", "add", "a/adam.toml", "--pack-dir", "packs"])
        .ok();
    let before = tree(&machine.work());
    let refused = machine.run(&["pack", "add", "b/adam.toml", "--pack-dir", "packs"]);
    let stderr = refused.fails(2);
    assert!(
        stderr.contains("the folder `packs` has another pack `adam`"),
        "{stderr}"
    );
    assert!(stderr.contains("--force"), "{stderr}");
    assert_eq!(tree(&machine.work()), before);
    let renamed = [
        "pack",
        "add",
        "b/adam.toml",
        "--pack-dir",
        "packs",
        "--name",
        "eve",
    ];
    assert_eq!(machine.run(&renamed).ok(), "eve\n");
    machine.run(&["render", "eve/greet", "-p", "name=Ada"]).ok();
    machine
        .run(&[
            "pack",
            "add",
            "b/adam.toml",
            "--pack-dir",
            "packs",
            "--force",
        ])
        .ok();
    let expected = [
        "adam.toml",
        "adam/more.txt",
        "eve.toml",
        "eve/more.txt",
        "packs.lock",
    ];
    assert_eq!(paths(&machine.work().join("packs")), expected);
    // Files of the replaced pack that the new one does not have go with it.
    machine
        .run(&[
            "pack",
            "add",
            "a/adam.toml",
            "--pack-dir",
            "packs",
            "--force",
        ])
        .ok();
    let expected = ["adam.toml", "eve.toml", "eve/more.txt", "packs.lock"];
    assert_eq!(paths(&machine.work().join("packs")), expected);
    assert!(!machine.work().join("packs/adam").exists());
    for name in ["standard", "Adam", "../adam"] {
        let args = ["pack", "add", "a/adam.toml", "--name", name];
        assert!(machine.run(&args).fails(2).contains("invalid pack name"));
    }
}

#[test]
fn a_failed_write_leaves_the_old_pack() {
    let machine = Machine::new();
    machine.write("a/adam.toml", PROMPT_FILE);
    machine
        .run(&["pack", "add", "a/adam.toml", "--pack-dir", "packs"])
        .ok();
    // `adam` is a file, so that the second file of the new pack cannot be written.
    machine.write("packs/adam", "in the way");
    machine.write("b/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    machine.write("b/adam/more.txt", "more");
    let before = tree(&machine.work());
    let failed = machine.run(&[
        "pack",
        "add",
        "b/adam.toml",
        "--pack-dir",
        "packs",
        "--force",
    ]);
    assert!(
        failed
            .fails(1)
            .contains("cannot write `packs/adam/more.txt`"),
        "{failed:?}"
    );
    assert_eq!(tree(&machine.work()), before);
}

#[test]
fn files_that_are_no_part_of_the_pack_are_kept() {
    let machine = Machine::new();
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.write("a/adam.txt", "theirs");
    machine.write("packs/adam.txt", "mine");
    let add = ["pack", "add", "a/adam.toml", "--pack-dir", "packs"];
    let refused = machine.run(&add);
    assert!(
        refused
            .fails(2)
            .contains("`packs/adam.txt` exists and is no part of the pack"),
        "{refused:?}"
    );
    assert_eq!(tree(&machine.work().join("packs")).len(), 1);
    // A pack of the folder under the name of another one.
    machine.write("packs/adam.toml", PROMPT_FILE);
    machine.write("packs/eve.toml", "[mine]\nprompt = \"Mine.\"\n");
    let copy = [
        "pack",
        "add",
        "packs/adam.toml",
        "--pack-dir",
        "packs",
        "--name",
        "eve",
    ];
    assert!(
        machine
            .run(&copy)
            .fails(2)
            .contains("has another pack `eve`")
    );
    assert!(machine.read("packs/eve.toml").contains("Mine."));
}

#[cfg(unix)]
#[test]
fn files_in_a_linked_folder_are_neither_changed_nor_removed() {
    let machine = Machine::new();
    machine.write("elsewhere/notes.txt", "mine");
    machine.write("packs/adam.toml", PROMPT_FILE);
    std::os::unix::fs::symlink("../elsewhere", machine.work().join("packs/adam")).unwrap();
    let packs = ["--pack-dir", "packs"];
    machine.run(&[&["pack", "lock"][..], &packs].concat()).ok();
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.write("a/adam/notes.txt", "theirs");
    for args in [
        &["pack", "remove", "adam", "--force"][..],
        &["pack", "add", "a/adam.toml", "--force"],
    ] {
        let run = machine.run(&[args, &packs].concat());
        assert!(
            run.fails(2).contains("`packs/adam` is a symbolic link"),
            "{run:?}"
        );
        assert_eq!(machine.read("elsewhere/notes.txt"), "mine");
    }
}

#[test]
fn hidden_files_and_unsuitable_names_are_no_part_of_a_pack() {
    let machine = Machine::new();
    machine.write("packs/adam.toml", PROMPT_FILE);
    machine.write("packs/adam/.DS_Store", "x");
    machine.write("packs/adam/.lmstrix-left", "x");
    machine.run(&["pack", "lock", "--pack-dir", "packs"]).ok();
    machine.run(&["pack", "verify"]).ok();
    let run = machine.run(&["render", "adam/greet", "-p", "name=Ada", "--locked"]);
    assert_eq!(run.ok().lines().last(), Some("Greet Ada."));
    assert!(!machine.read("packs/packs.lock").contains("DS_Store"));
    #[cfg(unix)]
    {
        machine.write("packs/adam/a\\b", "x");
        let run = machine.run(&["render", "adam/greet", "-p", "name=Ada", "--locked"]);
        run.ok();
        assert!(
            run.stderr.contains("characters that are not allowed"),
            "{run:?}"
        );
    }
    // The lock file is not a file of the pack `packs`.
    machine.write("packs/packs.toml", PROMPT_FILE);
    machine.run(&["pack", "lock", "--pack-dir", "packs"]).ok();
    machine.run(&["pack", "verify"]).ok();
}

#[test]
fn a_source_is_kept_until_the_pack_is_changed_by_hand() {
    let machine = Machine::new();
    let packs = ["--pack-dir", "packs"];
    let run = |args: &[&str]| machine.run(&[args, &packs].concat());
    let source = || {
        let lock_file = lock_file(&machine);
        let source = lock_file["pack"][0].get("source");
        source.map(|source| source.as_str().unwrap().to_owned())
    };
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.write("b/adam.toml", PROMPT_FILE);
    run(&["pack", "add", "a/adam.toml"]).ok();
    run(&["pack", "add", "packs/adam.toml"]).ok();
    run(&["pack", "lock"]).ok();
    assert_eq!(source().as_deref(), Some("../a/adam.toml"));
    let moved = run(&["pack", "add", "b/adam.toml"]);
    moved.ok();
    assert!(
        moved.stderr.contains("recorded the new source of adam"),
        "{moved:?}"
    );
    assert_eq!(source().as_deref(), Some("../b/adam.toml"));
    // A missing pack keeps its entry, since the entry is the way to get it again.
    std::fs::remove_file(machine.work().join("packs/adam.toml")).unwrap();
    let kept = run(&["pack", "lock"]);
    kept.ok();
    assert!(
        kept.stderr.contains("adam not in the folder, and kept in"),
        "{kept:?}"
    );
    assert_eq!(source().as_deref(), Some("../b/adam.toml"));
    run(&["pack", "update", "--locked"]).ok();
    // `lock` accepts a change by hand, which `update` must not undo.
    machine.write("packs/adam.toml", "[mine]\nprompt = \"Mine.\"\n");
    run(&["pack", "lock"]).ok();
    assert_eq!(source(), None);
    run(&["pack", "update"]).ok();
    assert!(machine.read("packs/adam.toml").contains("Mine."));
}

#[test]
fn a_folder_that_does_not_exist_is_an_error() {
    let machine = Machine::new();
    for args in [
        &["pack", "verify"][..],
        &["pack", "lock"],
        &["pack", "update"],
        &["pack", "remove", "adam"],
    ] {
        let run = machine.run(&[args, &["--pack-dir", "typo"]].concat());
        assert!(
            run.fails(2).contains("`typo` is not a folder"),
            "{args:?}: {run:?}"
        );
    }
    assert_eq!(machine.file_names(), [""; 0]);
    let run = machine.run(&["pack", "verify"]);
    run.ok();
    assert!(run.stderr.contains("no packs in "), "{run:?}");
}

#[test]
fn a_file_whose_name_is_no_pack_name_can_be_added_under_another_name() {
    let machine = Machine::new();
    machine.write("Their Pack.toml", PROMPT_FILE);
    machine.write("Their Pack.txt", "notes");
    let add = ["pack", "add", "Their Pack.toml"];
    assert!(
        machine
            .run(&add)
            .fails(2)
            .contains("invalid pack name `Their Pack`")
    );
    machine
        .run(&[&add[..], &["--name", "theirs"]].concat())
        .ok();
    let added = paths(&machine.home().join("data/packs"));
    assert_eq!(added, ["packs.lock", "theirs.toml", "theirs.txt"]);
    let run = machine.run(&["pack", "add", "localhost:5000/adam:1"]);
    assert!(
        run.fails(2).contains("oci://localhost:5000/adam:1"),
        "{run:?}"
    );
}

#[test]
fn packs_are_updated_removed_and_compared() {
    let machine = Machine::new();
    let packs = ["--pack-dir", "packs"];
    let run = |args: &[&str]| machine.run(&[args, &packs].concat());
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.write("packs/eve.toml", PROMPT_FILE);
    run(&["pack", "add", "a/adam.toml"]).ok();
    let states = |code| {
        let run = run(&["pack", "verify"]);
        assert_eq!(run.code, Some(code), "{run:?}");
        run.text().to_owned()
    };
    assert_eq!(states(2), "packs/adam: same\npacks/eve: not locked\n");
    run(&["pack", "lock"]).ok();
    assert_eq!(states(0), "packs/adam: same\npacks/eve: same\n");
    // A new version at the source.
    machine.write("a/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    let updated = run(&["pack", "update"]);
    updated.ok();
    assert!(updated.stderr.contains("updated adam"), "{updated:?}");
    assert!(machine.read("packs/adam.toml").contains("Hello"));
    assert!(
        run(&["pack", "update", "eve"])
            .fails(2)
            .contains("pack `eve` has no source in packs.lock")
    );
    assert!(
        run(&["pack", "update", "bob"])
            .fails(2)
            .contains("not in `packs/packs.lock`")
    );
    // Changes by hand are not lost.
    let mine = "[greet]\nprompt = \"Dear {{name}}.\"\n";
    machine.write("packs/adam.toml", mine);
    let state = states(2);
    assert!(
        state.starts_with("packs/adam: changed: `adam.toml` has sha256:"),
        "{state}"
    );
    machine.write("a/adam.toml", PROMPT_FILE);
    const CHANGED: &str = "pack `adam` was changed by hand, or by a command that was interrupted";
    for (args, message, hint) in [
        (&["pack", "update"][..], CHANGED, "--force"),
        (&["pack", "remove", "adam"], CHANGED, "--force"),
        // The source has another version than packs.lock.
        (
            &["pack", "update", "--locked"],
            "and packs.lock has sha256:",
            "without --locked",
        ),
    ] {
        let stderr = run(args).fails(2).to_owned();
        assert!(
            stderr.contains(message) && stderr.contains(hint),
            "{args:?}: {stderr}"
        );
        assert_eq!(machine.read("packs/adam.toml"), mine);
    }
    run(&["pack", "update", "--force"]).ok();
    assert_eq!(machine.read("packs/adam.toml"), PROMPT_FILE);
    let json = machine.run(&["pack", "verify", "adam", "--json"]).json();
    assert_eq!(json["packs"][0]["state"], "same");
    machine.write("packs/bob.toml", PROMPT_FILE);
    assert!(
        run(&["pack", "remove", "bob"])
            .fails(2)
            .contains("not in `packs/packs.lock`")
    );
    run(&["pack", "remove", "bob", "--force"]).ok();
    run(&["pack", "remove", "adam", "eve"]).ok();
    assert_eq!(paths(&machine.work().join("packs")), ["packs.lock"]);
    assert!(
        run(&["pack", "remove", "adam"])
            .fails(2)
            .contains("no pack `adam` in `packs`")
    );
}

#[test]
fn a_lock_file_restores_missing_packs_and_accepts_no_other() {
    let machine = Machine::new();
    let run = |args: &[&str]| machine.run(&[args, &["--pack-dir", "packs"]].concat());
    machine.write("a/adam.toml", PROMPT_FILE);
    run(&["pack", "add", "a/adam.toml"]).ok();
    let before = tree(&machine.work());
    std::fs::remove_file(machine.work().join("packs/adam.toml")).unwrap();
    let verified = run(&["pack", "verify"]);
    assert_eq!(
        (verified.code, verified.text()),
        (Some(2), "packs/adam: missing\n")
    );
    assert!(
        verified
            .stderr
            .contains("1 of 1 packs differ from packs.lock"),
        "{verified:?}"
    );
    run(&["pack", "update", "--locked"]).ok();
    assert_eq!(tree(&machine.work()), before);
    std::fs::remove_file(machine.work().join("packs/adam.toml")).unwrap();
    machine.write("a/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    let stderr = run(&["pack", "update", "--locked"]).fails(2).to_owned();
    assert!(
        stderr.contains("pack `adam` at packs/../a/adam.toml has sha256:")
            || stderr.contains("pack `adam` at a/adam.toml has sha256:"),
        "{stderr}"
    );
    assert_eq!(paths(&machine.work().join("packs")), ["packs.lock"]);
}

#[test]
fn invalid_lock_files_are_reported_with_their_line() {
    let machine = Machine::new();
    machine.write("a/adam.toml", PROMPT_FILE);
    let digest = sha256(b"x");
    let files = format!("\"../adam.toml\" = \"{digest}\"");
    let entry = |name: &str, files: &str| {
        format!("[[pack]]\nname = \"{name}\"\ndigest = \"{digest}\"\n[pack.files]\n{files}\n")
    };
    let adam = entry("adam", &format!("\"adam.toml\" = \"{digest}\""));
    for (text, message) in [
        (
            format!("version = 1\n{adam}{adam}"),
            "it has two entries for the pack `adam`",
        ),
        (
            format!("version = 1\n{}", entry("../adam", &files)),
            "invalid pack name `../adam`",
        ),
        (
            format!("version = 1\n{}", entry("adam", &files)),
            "pack `adam`: `../adam.toml`: its path is not",
        ),
        (
            "version = 1\n[[pack]]\nname = 1\n".to_owned(),
            "line 3: invalid type",
        ),
        ("version = 2\n".to_owned(), "it has version 2"),
        ("no TOML".to_owned(), "line 1: "),
        (
            format!(
                "version = 1\n[[pack]]\nname = \"adam\"\ndigest = \"{digest}\"\n[pack.files]\n"
            ),
            "the digest of pack `adam` does not match",
        ),
        (
            "version = 1\n[[pack]]\nname = \"adam\"\ndigest = \"sha256:1\"\n[pack.files]\n"
                .to_owned(),
            "line 4: `sha256:1` is not `sha256:` and 64 hex digits",
        ),
    ] {
        machine.write("packs/packs.lock", &text);
        machine.write("packs/adam.toml", PROMPT_FILE);
        for args in [
            &["pack", "add", "a/adam.toml", "--pack-dir", "packs"][..],
            &["pack", "verify"],
            &["render", "adam/greet", "-p", "name=x", "--locked"],
        ] {
            let run = machine.run(args);
            let stderr = run.fails(2);
            assert!(
                stderr.contains("invalid lock file `packs/packs.lock`"),
                "{args:?}: {stderr}"
            );
            assert!(stderr.contains(message), "{args:?}: {stderr}");
        }
        assert_eq!(machine.read("packs/packs.lock"), text);
    }
}

#[test]
fn a_component_in_the_folder_with_files_in_it_is_unpacked() {
    let machine = Machine::new();
    let component = std::fs::read(component("glossary")).unwrap();
    let json = br#"{"files":{".csv":"term,translation\n","/more.csv":"a,b\n"}}"#;
    let name = b"lmstrix:files";
    let mut section = vec![u8::try_from(name.len()).unwrap()];
    section.extend_from_slice(name);
    section.extend_from_slice(json);
    let header = [0, u8::try_from(section.len()).unwrap()];
    let bundle = [&component[..], &header, &section].concat();
    machine.write("packs/glossary.wasm", &bundle);
    let warned = machine.run(&["pack", "show", "glossary"]);
    assert!(
        warned
            .stderr
            .contains("holds files of the pack that are not used"),
        "{warned:?}"
    );
    machine
        .run(&["pack", "add", "packs/glossary.wasm", "--pack-dir", "packs"])
        .ok();
    let expected = [
        "glossary.csv",
        "glossary.wasm",
        "glossary/more.csv",
        "packs.lock",
    ];
    assert_eq!(paths(&machine.work().join("packs")), expected);
    assert_eq!(
        std::fs::read(machine.work().join("packs/glossary.wasm")).unwrap(),
        component
    );
    assert!(!machine.read("packs/packs.lock").contains("source"));
    // A section that would write elsewhere.
    let json = br#"{"files":{"/../evil.toml":"x"}}"#;
    let mut section = vec![u8::try_from(name.len()).unwrap()];
    section.extend_from_slice(name);
    section.extend_from_slice(json);
    let header = [0, u8::try_from(section.len()).unwrap()];
    machine.write("b/evil.wasm", [&component[..], &header, &section].concat());
    let refused = machine.run(&["pack", "add", "b/evil.wasm"]);
    assert!(
        refused.fails(2).contains("characters that are not allowed"),
        "{refused:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_lock_file_that_is_no_file_is_not_read() {
    let machine = Machine::new();
    machine.write("packs/adam.toml", PROMPT_FILE);
    crate::support::make_pipe(&machine.work().join("packs/packs.lock"));
    for args in [
        &["pack", "verify"][..],
        &["render", "adam/greet", "-p", "name=x", "--locked"],
    ] {
        let run = machine.run(args);
        assert!(
            run.fails(2).contains("it is not a file of at most 4 MiB"),
            "{run:?}"
        );
    }
}

/// A web server with one pack.
fn web_server() -> ScriptedServer {
    ScriptedServer::start(|request, _| {
        let send = |head: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
            vec![Step::Send([head.as_bytes(), body].concat())]
        };
        let body = PROMPT_FILE.as_bytes();
        match request.path.as_str() {
            "/adam.toml" => send(&format!("200 OK\r\ncontent-length: {}", body.len()), body),
            "/moved/adam.toml" => send(
                "302 Found\r\nlocation: /adam.toml\r\ncontent-length: 0",
                b"",
            ),
            "/cut/adam.toml" => send("200 OK\r\ncontent-length: 1000", body),
            "/large/adam.wasm" => send("200 OK\r\ncontent-length: 70000000", b"\0asm"),
            "/endless/adam.toml" => {
                let chunk = [
                    b"100000\r\n".to_vec(),
                    vec![b'#'; 0x0010_0000],
                    b"\r\n".to_vec(),
                ]
                .concat();
                let mut steps = send("200 OK\r\ntransfer-encoding: chunked", b"");
                steps.extend((0..20).map(|_| Step::Send(chunk.clone())));
                steps
            }
            "/login/adam.wasm" => send("200 OK\r\ncontent-length: 15", b"<!doctype html>"),
            _ => send("404 Not Found\r\ncontent-length: 0", b""),
        }
    })
}

#[test]
fn a_url_is_a_source_and_its_faults_leave_nothing() {
    let machine = Machine::new();
    let server = web_server();
    let url = |path: &str| format!("{}{path}", server.url());
    let digest = sha256(PROMPT_FILE.as_bytes());
    machine
        .run(&["pack", "add", &url("/moved/adam.toml"), "--digest", &digest])
        .ok();
    let before = tree(&machine.home().join("data/packs"));
    machine.run(&["pack", "update"]).ok();
    assert_eq!(tree(&machine.home().join("data/packs")), before);
    let other = sha256(b"x");
    for (path, more, code, message) in [
        (
            "/cut/adam.toml",
            &[][..],
            1,
            "the transfer was cut off after 35 bytes",
        ),
        (
            "/large/adam.wasm",
            &[],
            2,
            "the limit is 64 MiB (limits.pack_file_bytes)",
        ),
        ("/endless/adam.toml", &[], 2, "the limit is 16 MiB"),
        (
            "/login/adam.wasm",
            &[],
            2,
            "is not a pack: the server sent a web page",
        ),
        (
            "/none/adam.toml",
            &[],
            4,
            "none/adam.toml: the server returned HTTP 404 Not Found",
        ),
        (
            "/adam.txt",
            &[],
            2,
            "its name does not end with `.wasm` or `.toml`",
        ),
        (
            "/adam.toml",
            &["--digest", &other],
            1,
            "not sha256:2d711642b726b04401627ca9fbac32f5",
        ),
        ("/adam.toml", &["--digest", "sha256:12"], 2, "64 hex digits"),
    ] {
        let url = url(path);
        let args = [&["pack", "add", &url, "--force"][..], more].concat();
        let run = machine.run(&args);
        assert!(run.fails(code).contains(message), "{path}: {run:?}");
        assert_eq!(tree(&machine.home().join("data/packs")), before, "{path}");
    }
    let address = server.url();
    drop(server);
    let run = machine.run(&["pack", "add", &format!("{address}/adam.toml")]);
    assert!(run.fails(4).contains("cannot reach 127.0.0.1"), "{run:?}");
}

#[test]
fn two_commands_do_not_change_a_folder_at_once() {
    let machine = Machine::new();
    let server = ScriptedServer::start(|_, _| vec![Step::Hang]);
    let url = format!("{}/adam.toml", server.url());
    machine.write("a/adam.toml", PROMPT_FILE);
    machine.run(&["pack", "add", "a/adam.toml"]).ok();
    let lock = machine.home().join("data/packs/packs.lock");
    let text = std::fs::read_to_string(&lock).unwrap();
    let source = text
        .lines()
        .find(|line| line.starts_with("source"))
        .unwrap();
    std::fs::write(&lock, text.replace(source, &format!("source = \"{url}\""))).unwrap();
    // It waits for the server while it holds the folder.
    let mut child = machine.command(&["pack", "update"]).spawn().unwrap();
    crate::support::wait_until(|| !server.requests().is_empty());
    let run = machine.run(&["pack", "remove", "adam"]);
    assert!(
        run.fails(1)
            .contains("another process is changing the packs in"),
        "{run:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    machine.run(&["pack", "remove", "adam"]).ok();
}
