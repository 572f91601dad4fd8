//! A registry from Debian, and the clients of other projects.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::guests::component;
use crate::outside_program;
use crate::support::{Machine, wait_until};

use super::{PROMPT_FILE, paths, sha256, tree, write_pack};

/// A running registry; stops when dropped.
struct DockerRegistry {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Returns the program, which is downloaded once.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(unpacked_program)
}

/// Downloads and unpacks Debian's package `docker-registry`, which installs nothing.
fn unpacked_program() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("docker-registry");
    let program = folder.join("usr/bin/docker-registry");
    if program.exists() {
        return program;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let mut download = Command::new("apt-get");
    download
        .args(["download", "docker-registry"])
        .current_dir(&folder);
    outside_program::download(&mut download).unwrap();
    let package = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let package =
        package.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let mut unpack = Command::new("dpkg");
    unpack.arg("-x").args(package).arg(&folder);
    outside_program::run(&mut unpack, "").unwrap();
    program
}

impl DockerRegistry {
    /// Starts a registry; with `htpasswd`, it requires a login.
    fn start(htpasswd: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let storage = folder.path().join("storage");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\n",
            storage.display()
        );
        if let Some(htpasswd) = htpasswd {
            let path = folder.path().join("htpasswd");
            std::fs::write(&path, htpasswd).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                path.display()
            );
        }
        let config_path = folder.path().join("config.yml");
        std::fs::write(&config_path, config).unwrap();
        let process = Command::new(program())
            .arg("serve")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            process,
            port,
            _folder: folder,
        };
        wait_until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        registry
    }

    fn reference(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }
}

#[test]
#[ignore = "needs Debian's package docker-registry"]
fn packs_are_pushed_pulled_and_run() {
    let registry = DockerRegistry::start(None);
    let author = Machine::new();
    write_pack(&author, "packs");
    author.write("packs/adam.toml", PROMPT_FILE);
    author.write("packs/adam/notes.txt", "notes");
    let push = |name: &str, reference: &str| {
        let pushed = author.run(&["pack", "push", name, &registry.reference(reference)]);
        pushed.ok().trim().to_owned()
    };
    let glossary = push("glossary", "team/terms:1");
    // The same pack has the same digest, whenever it is pushed.
    assert_eq!(push("glossary", "team/terms:1"), glossary);
    let adam = push("adam", "adam:latest");
    let user = Machine::new();
    user.run(&["pack", "pull", &glossary, "--pack-dir", "packs"])
        .ok();
    let source = format!("oci://{}", registry.reference("adam"));
    user.run(&["pack", "add", &source, "--pack-dir", "packs"])
        .ok();
    // The files are those of the author, and so are the digests.
    let mut pulled = tree(&user.work().join("packs"));
    pulled.retain(|(path, _)| path != "packs.lock");
    assert_eq!(pulled, tree(&author.work().join("packs")));
    let lock_file = user.read("packs/packs.lock");
    let (_, digest) = adam.split_once('@').unwrap();
    assert!(
        lock_file.contains(&format!("manifest = \"{digest}\"")),
        "{lock_file}"
    );
    let translate = [
        "render",
        "glossary/translate",
        "--text",
        "The server runs.",
        "--locked",
    ];
    assert!(user.run(&translate).ok().contains("- server: Server"));
    user.run(&["render", "adam/greet", "-p", "name=Ada", "--locked"])
        .ok();
    user.run(&[
        "infer",
        "adam/greet",
        "-p",
        "name=Ada",
        "--locked",
        "--engine",
        "embedded",
    ])
    .ok();
    // A new version: `update` gets it, `update --locked` gets the old one.
    author.write("packs/adam.toml", "[greet]\nprompt = \"Hello {{name}}.\"\n");
    push("adam", "adam:latest");
    std::fs::remove_file(user.work().join("packs/adam.toml")).unwrap();
    user.run(&["pack", "update", "--locked", "--pack-dir", "packs"])
        .ok();
    assert_eq!(user.read("packs/adam.toml"), PROMPT_FILE);
    user.run(&["pack", "update", "--pack-dir", "packs"]).ok();
    assert!(user.read("packs/adam.toml").contains("Hello"));
    // A changed pack is refused under --locked.
    user.write("packs/glossary.csv", "term,translation\nserver,Bedienung\n");
    assert!(
        user.run(&translate)
            .fails(2)
            .contains("`glossary.csv` has sha256:")
    );
    let before = tree(&user.work());
    for (reference, code, message) in [
        ("none:1", 4, "no such artifact"),
        ("adam:none", 4, "no such artifact"),
    ] {
        let run = user.run(&[
            "pack",
            "pull",
            &registry.reference(reference),
            "--pack-dir",
            "packs",
        ]);
        assert!(run.fails(code).contains(message), "{run:?}");
    }
    // Larger than the limit.
    user.write("../home/config.toml", "[limits]\npack_file_bytes = 10000\n");
    let run = user.run(&["pack", "pull", &glossary, "--pack-dir", "other"]);
    assert!(run.fails(2).contains("limits.pack_file_bytes"), "{run:?}");
    assert_eq!(paths(&user.work().join("other")), [""; 0]);
    assert_eq!(tree(&user.work()), before);
}

#[test]
#[ignore = "needs Debian's package docker-registry"]
fn credentials_are_those_of_docker() {
    // The user `me` with the password `secret`, by bcrypt.
    let htpasswd = "me:$2b$05$5vUEWE4k/owsaFccFm9FquC1j1R1pil973i42MDZV1ylPUausV/I2\n";
    let registry = DockerRegistry::start(Some(htpasswd));
    let machine = Machine::new();
    machine.write("packs/adam.toml", PROMPT_FILE);
    let reference = registry.reference("adam:1");
    let push = |config: &str| {
        let mut command = machine.command(&["pack", "push", "adam", &reference]);
        command.env("DOCKER_CONFIG", machine.work().join(config));
        crate::support::finish(command.spawn().unwrap())
    };
    let refused = push("none");
    let stderr = refused.fails(4);
    assert!(stderr.contains("the registry requires a login"), "{stderr}");
    assert!(stderr.contains("docker login localhost:"), "{stderr}");
    let config = |password: &str| {
        use base64::Engine;
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("me:{password}"));
        let registry = format!("localhost:{}", registry.port);
        let config = serde_json::json!({ "auths": { registry: { "auth": auth } } });
        machine.write("docker/config.json", config.to_string());
    };
    config("wrong");
    let stderr = push("docker").fails(4).to_owned();
    assert!(
        stderr.contains("the registry refuses the credentials") && !stderr.contains("wrong"),
        "{stderr}"
    );
    config("secret");
    push("docker").ok();
}

/// Returns the Python of an environment with the package `oras`.
fn python_with_oras() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("oras-0.2.43");
    let python = folder.join("bin/python");
    if !folder.join("complete").exists() {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&folder);
        outside_program::run(&mut create, "").unwrap();
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "oras==0.2.43"]);
        outside_program::download(&mut install).unwrap();
        std::fs::write(folder.join("complete"), "").unwrap();
    }
    python
}

#[test]
#[ignore = "needs Debian's package docker-registry, and the Python package oras"]
fn artifacts_are_exchanged_with_oras() {
    let registry = DockerRegistry::start(None);
    let machine = Machine::new();
    write_pack(&machine, "packs");
    let oras = |script: &str| {
        let mut python = Command::new(python_with_oras());
        python.args(["-c", script]).current_dir(machine.work());
        outside_program::run(&mut python, "").unwrap()
    };
    let host = format!("localhost:{}", registry.port);
    let client = format!(
        "import oras.client\nclient = oras.client.OrasClient(hostname='{host}', insecure=True)\n"
    );
    machine
        .run(&["pack", "push", "glossary", &registry.reference("ours:1")])
        .ok();
    oras(&format!(
        "{client}client.pull(target='{host}/ours:1', outdir='pulled')"
    ));
    assert_eq!(paths(&machine.work().join("pulled")), ["glossary.wasm"]);
    // All files of the pack are in the component.
    machine
        .run(&[
            "pack",
            "add",
            "pulled/glossary.wasm",
            "--pack-dir",
            "unpacked",
        ])
        .ok();
    let mut unpacked = tree(&machine.work().join("unpacked"));
    unpacked.retain(|(path, _)| path != "packs.lock");
    assert_eq!(unpacked, tree(&machine.work().join("packs")));
    let shout = std::fs::read(component("shout")).unwrap();
    machine.write("shout.wasm", &shout);
    oras(&format!(
        "{client}client.push(target='{host}/theirs:1', files=['shout.wasm:application/wasm'], \
         disable_path_validation=True)"
    ));
    machine
        .run(&["pack", "pull", &registry.reference("theirs:1")])
        .ok();
    let added = std::fs::read(machine.home().join("data/packs/shout.wasm")).unwrap();
    assert_eq!(sha256(&added), sha256(&shout));
}
