//! Faults of registries and of their artifacts. The registry is a script, since a real one sends
//! none of these.

use serde_json::{Value, json};

use crate::guests::component;
use crate::servers::scripted::{ScriptedServer, Step};
use crate::support::{Machine, Run};

use super::{PROMPT_FILE, paths, sha256, tree};

/// An answer with a length that may be wrong.
fn answer(status: &str, content_type: &str, length: usize, body: &[u8]) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    vec![Step::Send([head.as_bytes(), body].concat())]
}

/// A file of an artifact.
struct Layer {
    title: Option<&'static str>,
    media_type: &'static str,
    content: Vec<u8>,
}

fn layer(title: &'static str, content: &[u8]) -> Layer {
    Layer {
        title: Some(title),
        media_type: "text/plain",
        content: content.to_vec(),
    }
}

/// Returns the manifest of an artifact.
fn manifest(layers: &[Layer]) -> Value {
    let layers = layers.iter().map(|layer| {
        let mut descriptor = json!({
            "mediaType": layer.media_type,
            "digest": sha256(&layer.content),
            "size": layer.content.len(),
        });
        if let Some(title) = layer.title {
            descriptor["annotations"] = json!({ "org.opencontainers.image.title": title });
        }
        descriptor
    });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": sha256(b"{}"),
            "size": 2,
        },
        "layers": layers.collect::<Vec<_>>(),
    })
}

/// A registry with one artifact, `team/adam:1`. `blob` changes the answers with contents.
fn registry(
    manifest: &Value,
    layers: &[Layer],
    blob: impl Fn(&[u8]) -> Vec<Step> + Send + Sync + 'static,
) -> ScriptedServer {
    let manifest = manifest.to_string().into_bytes();
    let contents: Vec<(String, Vec<u8>)> = layers
        .iter()
        .map(|layer| (sha256(&layer.content), layer.content.clone()))
        .collect();
    ScriptedServer::start(move |request, _| {
        let path = request.path.as_str();
        if path == "/v2/" {
            return answer("200 OK", "application/json", 2, b"{}");
        }
        if path.starts_with("/v2/team/adam/manifests/") {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            return answer("200 OK", media_type, manifest.len(), &manifest);
        }
        let digest = path
            .strip_prefix("/v2/team/adam/blobs/")
            .unwrap_or_default();
        match contents.iter().find(|(known, _)| known == digest) {
            Some((_, content)) => blob(content),
            None => {
                let body = br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#;
                answer("404 Not Found", "application/json", body.len(), body)
            }
        }
    })
}

fn whole(content: &[u8]) -> Vec<Step> {
    answer("200 OK", "application/octet-stream", content.len(), content)
}

fn pull(machine: &Machine, registry: &ScriptedServer, more: &[&str]) -> Run {
    let reference = format!("127.0.0.1:{}/team/adam:1", registry.port());
    machine.run(&[&["pack", "pull", &reference][..], more].concat())
}

#[test]
fn artifacts_of_other_tools_are_packs() {
    let glossary = std::fs::read(component("glossary")).unwrap();
    let component = |title, media_type| Layer {
        title,
        media_type,
        content: glossary.clone(),
    };
    for (layers, expected) in [
        // As `wkg` and Spin push them: the name is that of the repository.
        (
            vec![component(None, "application/wasm")],
            &["adam.wasm", "packs.lock"][..],
        ),
        (
            vec![component(
                None,
                "application/vnd.wasm.content.layer.v1+wasm",
            )],
            &["adam.wasm", "packs.lock"],
        ),
        // As `oras push REF dist/v1/glossary.wasm dist/v1/glossary.csv` does.
        (
            vec![
                component(
                    Some("dist/v1/glossary.wasm"),
                    "application/vnd.oci.image.layer.v1.tar",
                ),
                layer("dist/v1/glossary.csv", b"term,translation\n"),
            ],
            &["glossary.csv", "glossary.wasm", "packs.lock"],
        ),
        // As `oras push REF glossary.wasm glossary.csv glossary/more.csv` does.
        (
            vec![
                component(
                    Some("glossary.wasm"),
                    "application/vnd.oci.image.layer.v1.tar",
                ),
                layer("glossary.csv", b"term,translation\n"),
                layer("glossary/more.csv", b"a,b\n"),
            ],
            &[
                "glossary.csv",
                "glossary.wasm",
                "glossary/more.csv",
                "packs.lock",
            ],
        ),
        (
            vec![layer("eve.toml", PROMPT_FILE.as_bytes())],
            &["eve.toml", "packs.lock"],
        ),
    ] {
        let machine = Machine::new();
        let registry = registry(&manifest(&layers), &layers, whole);
        let run = pull(&machine, &registry, &[]);
        run.ok();
        assert_eq!(
            paths(&machine.home().join("data/packs")),
            expected,
            "{run:?}"
        );
        machine.run(&["pack", "verify"]).ok();
    }
}

#[test]
fn artifacts_that_are_no_packs_leave_nothing() {
    let toml = PROMPT_FILE.as_bytes();
    let mut too_large = manifest(&[layer("adam.toml", toml)]);
    too_large["layers"][0]["size"] = json!(17 << 20);
    let mut component_too_large = manifest(&[layer("adam.wasm", toml)]);
    component_too_large["layers"][0]["size"] = json!(65 << 20);
    let mut negative = manifest(&[layer("adam.toml", toml)]);
    negative["layers"][0]["size"] = json!(-1);
    let mut smaller = manifest(&[layer("adam.toml", toml)]);
    smaller["layers"][0]["size"] = json!(toml.len() - 1);
    let mut larger = manifest(&[layer("adam.toml", toml)]);
    larger["layers"][0]["size"] = json!(toml.len() + 1);
    let mut sha512 = manifest(&[layer("adam.toml", toml)]);
    sha512["layers"][0]["digest"] = json!("sha512:12");
    let mut unknown = manifest(&[layer("adam.toml", toml)]);
    unknown["layers"][0]["digest"] = json!(sha256(b"x"));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    });
    let untitled = Layer {
        title: None,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        content: toml.to_vec(),
    };
    let cases = [
        (too_large, 2, "has 17 MiB or more, the limit is 16 MiB"),
        (
            component_too_large,
            2,
            "has 65 MiB or more, the limit is 64 MiB (limits.pack_file_bytes)",
        ),
        (negative, 2, "a layer has a negative size"),
        (
            smaller,
            2,
            "a layer has 34 bytes, and 35 bytes were received",
        ),
        (
            larger,
            2,
            "a layer has 36 bytes, and 35 bytes were received",
        ),
        (sha512, 2, "is not `sha256:` and 64 hex digits"),
        (unknown, 4, "no such artifact"),
        (index, 2, "it is an index of several artifacts"),
        (json!({ "schemaVersion": 2 }), 2, "its manifest is invalid"),
        (json!("x"), 2, "its manifest is invalid"),
        (manifest(&[]), 2, "the artifact has no files"),
        (
            manifest(&[untitled]),
            2,
            "a layer of the type `application/vnd.oci.image.layer.v1.tar+gzip`",
        ),
    ];
    let machine = Machine::new();
    for (manifest, code, message) in cases {
        let registry = registry(&manifest, &[layer("adam.toml", toml)], whole);
        let run = pull(&machine, &registry, &[]);
        assert!(run.fails(code).contains(message), "{message}: {run:?}");
        assert_eq!(
            paths(&machine.home().join("data/packs")),
            [""; 0],
            "{message}"
        );
    }
    for (layers, message) in [
        (
            vec![layer("adam.toml", toml), layer("/etc/passwd", b"x")],
            "`/etc/passwd`",
        ),
        (
            vec![layer("adam.toml", toml), layer("adam/../../x", b"x")],
            "`adam/../../x`",
        ),
        (
            vec![layer("adam.toml", toml), layer("adam/a\\b", b"x")],
            "characters that are not allowed",
        ),
        (
            vec![layer("adam.toml", toml), layer("eve.toml", toml)],
            "`eve.toml`",
        ),
        (
            vec![
                layer("adam.toml", toml),
                layer("adam/A", b"x"),
                layer("adam/a", b"y"),
            ],
            "two files have this path",
        ),
        (vec![layer("adam.txt", toml)], "the file is missing"),
        (
            vec![layer("adam.wasm", b"no component")],
            "not a WebAssembly file",
        ),
        (
            vec![layer("adam.toml", b"no TOML")],
            "pack `adam`: adam.toml:1:4: key with no value",
        ),
        (vec![layer("standard.toml", toml)], "the name is reserved"),
    ] {
        let registry = registry(&manifest(&layers), &layers, whole);
        let run = pull(&machine, &registry, &[]);
        assert!(
            run.code == Some(2) || run.code == Some(3),
            "{message}: {run:?}"
        );
        assert!(run.stderr.contains(message), "{message}: {run:?}");
        assert_eq!(
            paths(&machine.home().join("data/packs")),
            [""; 0],
            "{message}"
        );
    }
}

#[test]
fn wrong_contents_and_cut_transfers_keep_the_old_pack() {
    let layers = || vec![layer("adam.toml", PROMPT_FILE.as_bytes())];
    let machine = Machine::new();
    machine.write("a/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    machine.run(&["pack", "add", "a/adam.toml"]).ok();
    let before = tree(&machine.home().join("data/packs"));
    let other = PROMPT_FILE.replace("Greet", "Hates");
    let wrong = registry(&manifest(&layers()), &layers(), move |_| {
        whole(other.as_bytes())
    });
    let cut = registry(&manifest(&layers()), &layers(), |content| {
        answer(
            "200 OK",
            "application/octet-stream",
            content.len(),
            &content[..20],
        )
    });
    let reset = registry(&manifest(&layers()), &layers(), |content| {
        let mut steps = answer(
            "200 OK",
            "application/octet-stream",
            content.len(),
            &content[..20],
        );
        steps.push(Step::Reset);
        steps
    });
    let broken = registry(&manifest(&layers()), &layers(), |_| {
        answer("500 Internal Server Error", "text/plain", 4, b"oops")
    });
    for (registry, code, message) in [
        (
            &wrong,
            1,
            format!(
                "has sha256:{}",
                &sha256(PROMPT_FILE.replace("Greet", "Hates").as_bytes())[7..]
            ),
        ),
        (
            &cut,
            1,
            "the transfer was cut off after 20 bytes".to_owned(),
        ),
        (
            &reset,
            1,
            "the transfer was cut off after 20 bytes".to_owned(),
        ),
        (
            &broken,
            4,
            "the registry returned HTTP 500 Internal Server Error: oops".to_owned(),
        ),
    ] {
        let run = pull(&machine, registry, &["--force"]);
        assert!(run.fails(code).contains(&message), "{message}: {run:?}");
        assert_eq!(
            tree(&machine.home().join("data/packs")),
            before,
            "{message}"
        );
    }
    // A manifest that is not the one that the reference pins.
    let good = registry(&manifest(&layers()), &layers(), whole);
    let pinned = format!("127.0.0.1:{}/team/adam@{}", good.port(), sha256(b"x"));
    let run = machine.run(&["pack", "pull", &pinned, "--force"]);
    assert!(
        run.fails(1).contains(&format!("not {}", sha256(b"x"))),
        "{run:?}"
    );
    assert_eq!(tree(&machine.home().join("data/packs")), before);
    pull(&machine, &good, &["--force"]).ok();
    assert_ne!(tree(&machine.home().join("data/packs")), before);
}

#[test]
fn references_without_a_registry_are_refused() {
    let machine = Machine::new();
    for (reference, message) in [
        ("adam", "it has no registry"),
        ("team/adam:1", "it has no registry"),
        (
            "localhost:5000/UPPER",
            "invalid reference `localhost:5000/UPPER`",
        ),
        ("localhost:5000/adam@sha512:12", "invalid reference"),
    ] {
        for args in [
            ["pack", "pull", reference].as_slice(),
            &["pack", "push", "hello", reference],
        ] {
            let run = machine.run(args);
            assert!(run.fails(2).contains(message), "{args:?}: {run:?}");
        }
    }
}

#[test]
fn a_hostile_registry_neither_fills_the_memory_nor_ends_the_program() {
    let machine = Machine::new();
    let toml = PROMPT_FILE.as_bytes();
    let none = || paths(&machine.home().join("data/packs")).is_empty();
    // Sizes whose sum overflows, and more components than one.
    let mut sizes = manifest(&[
        layer("adam.toml", toml),
        layer("adam.csv", toml),
        layer("adam.txt", toml),
    ]);
    for at in 0..3 {
        sizes["layers"][at]["size"] = json!(i64::MAX);
    }
    let component = || Layer {
        title: None,
        media_type: "application/wasm",
        content: b"x".to_vec(),
    };
    for (manifest, message) in [
        (sizes, "the limit is 16 MiB"),
        (
            manifest(&[component(), component()]),
            "the artifact has several components",
        ),
        (
            manifest(
                &(0..1001)
                    .map(|_| layer("adam.toml", toml))
                    .collect::<Vec<_>>(),
            ),
            "the artifact has too many files",
        ),
    ] {
        let registry = registry(&manifest, &[], whole);
        let run = pull(&machine, &registry, &[]);
        assert!(run.fails(2).contains(message), "{message}: {run:?}");
        assert!(none());
    }
    // Errors and manifests without an end.
    let endless = |status: &'static str| {
        ScriptedServer::start(move |request, _| {
            if request.path == "/v2/" {
                return answer("200 OK", "application/json", 2, b"{}");
            }
            let mut steps = answer(status, "text/plain", usize::MAX >> 2, b"");
            steps.extend((0..64).map(|_| Step::Send(vec![b'x'; 1 << 20])));
            steps.push(Step::Hang);
            steps
        })
    };
    let error = endless("500 Internal Server Error");
    let run = pull(&machine, &error, &[]);
    assert!(run.fails(4).contains("HTTP 500"), "{run:?}");
    let large = endless("200 OK");
    let run = pull(&machine, &large, &[]);
    assert!(
        run.fails(2).contains("the limit is 4 MiB (of a manifest)"),
        "{run:?}"
    );
    // A token that is no header value.
    let token = ScriptedServer::start(|request, _| {
        if request.path.starts_with("/token") {
            let body = br#"{"token":"a\nb"}"#;
            return answer("200 OK", "application/json", body.len(), body);
        }
        let host = request
            .headers
            .iter()
            .find(|(name, _)| name == "host")
            .unwrap();
        let challenge = format!(
            "text/plain\r\nwww-authenticate: Bearer realm=\"http://{}/token\",service=\"s\"",
            host.1
        );
        answer("401 Unauthorized", &challenge, 0, b"")
    });
    let run = pull(&machine, &token, &[]);
    assert!(
        run.fails(4).contains("the token of the login is invalid"),
        "{run:?}"
    );
    assert!(none());
}

#[test]
fn a_token_of_the_login_is_sent() {
    let machine = Machine::new();
    let layers = vec![layer("adam.toml", PROMPT_FILE.as_bytes())];
    let manifest = manifest(&layers).to_string().into_bytes();
    let server = ScriptedServer::start(move |request, _| {
        let header = |wanted: &str| {
            let mut headers = request.headers.iter();
            let header = headers.find(|(name, _)| name == wanted);
            header.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let path = request.path.as_str();
        if path.starts_with("/token") {
            let body = br#"{"token":"abc"}"#;
            return answer("200 OK", "application/json", body.len(), body);
        }
        if header("authorization") != "Bearer abc" {
            let challenge = format!(
                "text/plain\r\nwww-authenticate: Bearer realm=\"http://{}/token\",service=\"s\"",
                header("host")
            );
            return answer("401 Unauthorized", &challenge, 0, b"");
        }
        match path.contains("/manifests/") {
            true => answer("200 OK", "application/json", manifest.len(), &manifest),
            false => whole(PROMPT_FILE.as_bytes()),
        }
    });
    pull(&machine, &server, &[]).ok();
    assert_eq!(
        paths(&machine.home().join("data/packs")),
        ["adam.toml", "packs.lock"]
    );
    let requests = server.requests();
    let scope = requests
        .iter()
        .find(|request| request.path.starts_with("/token"))
        .unwrap();
    assert!(
        scope.path.contains("repository%3Ateam%2Fadam%3Apull"),
        "{scope:?}"
    );
}
