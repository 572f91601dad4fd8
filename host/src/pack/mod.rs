//! The sandbox: finding packs, compiling and caching them, and calling them
//! within limits. Called "packs" in the README.
//!
//! This room knows wasmtime and the generated types of `wit/prompts.wit`, and
//! keeps both to itself. It knows nothing of engines, sinks or the command
//! line.

mod bindings;
mod cache;
mod call;
mod compile;
mod component;
mod contract;
mod convert;
mod error;
mod find;
mod limits;
mod loaded;
mod wasi;

use std::path::Path;
use std::sync::Arc;

use fs_err as fs;

use cache::Fingerprint;
use component::Sandbox;
use find::CheckError;

pub use cache::Cache;
pub use compile::{CHILD_COMMAND, Compiler, child as compile_child};
pub use contract::{
    Contents, EXTENSIONS, ModelFacts, Offer, Outcome, ParamInfo, ProcessorContext, ProcessorRef,
    Pushed, Request, Resolved, Stop, TextFile,
};
pub use error::{Answer, Cause, Error, GuestError, LoadError};
pub use find::{Folders, Found, RESERVED, check_name};
pub(crate) use limits::Bytes;
pub use limits::{Limit, Limits};
pub use loaded::{Pack, Processor, THREAD_STACK_BYTES};

/// The name of the pack that is part of this program.
pub const STANDARD: &str = "standard";

/// The component of the standard pack, as `build.rs` made it.
const STANDARD_WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/standard.wasm"));

/// What may be worth telling while packs are loaded.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A pack is compiled, which can take many seconds.
    Compiling {
        /// Its name.
        name: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// Compiled packs cannot be kept.
    NotCached {
        /// Where they would be.
        folder: &'a Path,
        /// Why not.
        reason: String,
    },
}

type OnNotice = dyn Fn(Notice<'_>) + Send + Sync;

/// Loads packs. One for the whole run.
pub struct Packs {
    sandbox: Arc<Sandbox>,
    cache: Cache,
    compiler: Compiler,
    on_notice: Box<OnNotice>,
}

impl Packs {
    /// Starts the sandbox. `on_notice` is told what may be worth telling.
    ///
    /// # Errors
    /// The machine cannot run the sandbox.
    pub fn new(
        limits: Limits,
        cache: Cache,
        compiler: Compiler,
        on_notice: impl Fn(Notice<'_>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let sandbox = Sandbox::new(limits)?;
        Ok(Self {
            sandbox,
            cache,
            compiler,
            on_notice: Box::new(on_notice),
        })
    }

    /// The standard pack. It is our own code, so it is compiled in process.
    ///
    /// # Errors
    /// The machine cannot compile or map it.
    pub fn standard(&self) -> Result<Pack, Error> {
        let digest = cache::sha256(STANDARD_WASM);
        self.assemble(
            STANDARD,
            digest,
            None,
            || Ok(STANDARD_WASM.into()),
            &Compiler::InProcess,
        )
    }

    /// A pack that was found in a folder.
    ///
    /// # Errors
    /// The file cannot be read, or is not a pack that this host can use.
    pub fn load(&self, found: &Found) -> Result<Pack, Error> {
        self.load_checked(&found.name, &found.path, true)
    }

    /// A pack that the user named by its file, wherever that is.
    ///
    /// # Errors
    /// As for [`Packs::load`], and when the file's stem is no name for a pack.
    pub fn load_file(&self, path: &Path) -> Result<Pack, Error> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        check_name(&name)?;
        if RESERVED.contains(&name.as_ref()) {
            return Err(Error::BadName {
                name: name.into_owned(),
                why: "it is reserved for the pack in this program; rename the file",
            });
        }
        self.load_checked(&name, path, false)
    }

    fn load_checked(&self, name: &str, path: &Path, in_folder: bool) -> Result<Pack, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let load = |cause| Error::Load {
            pack: name.to_owned(),
            path: Some(path.to_owned()),
            cause,
        };
        let metadata =
            find::check_file(path, in_folder, &self.sandbox.limits).map_err(|e| match e {
                CheckError::Io(source) => read(source),
                CheckError::Load(cause) => load(cause),
            })?;
        let real = fs::canonicalize(path).map_err(read)?;
        let fingerprint = Fingerprint::of(&real, &metadata);
        let known = fingerprint
            .as_ref()
            .and_then(|it| self.cache.known_digest(it));
        if let Some(digest) = known.filter(|it| self.cache.has(&self.sandbox.engine, it)) {
            let wasm = || {
                let wasm = fs::read(path).map_err(read)?;
                // The file may have been replaced since it was looked at.
                if cache::sha256(&wasm) != digest {
                    return Err(load(LoadError::Compile(
                        "it changed while it was read".to_owned(),
                    )));
                }
                Ok(wasm)
            };
            return self.assemble(name, digest.clone(), Some(path), wasm, &self.compiler);
        }
        let wasm = fs::read(path).map_err(read)?;
        check_kind(&wasm).map_err(load)?;
        let digest = cache::sha256(&wasm);
        let pack = self.assemble(
            name,
            digest.clone(),
            Some(path),
            || Ok(wasm),
            &self.compiler,
        )?;
        if let Some(fingerprint) = fingerprint {
            self.cache.remember(&fingerprint, &digest);
        }
        Ok(pack)
    }

    fn assemble(
        &self,
        name: &str,
        digest: String,
        path: Option<&Path>,
        wasm: impl FnOnce() -> Result<Vec<u8>, Error>,
        compiler: &Compiler,
    ) -> Result<Pack, Error> {
        let load = |cause| Error::Load {
            pack: name.to_owned(),
            path: path.map(Path::to_owned),
            cause,
        };
        let engine = &self.sandbox.engine;
        let component = match self.cache.load(engine, &digest) {
            Some(component) => component,
            None => {
                let _lock = self.cache.lock(&digest);
                // Another process may have compiled it while we waited.
                match self.cache.load(engine, &digest) {
                    Some(component) => component,
                    None => {
                        let wasm = wasm()?;
                        let bytes = wasm.len() as u64;
                        (self.on_notice)(Notice::Compiling { name, bytes });
                        let code = compiler
                            .compile(&wasm, &self.sandbox.limits)
                            .map_err(load)?;
                        self.cache
                            .keep(engine, &digest, &code, &*self.on_notice)
                            .map_err(|e| load(LoadError::Compile(e)))?
                    }
                }
            }
        };
        let probed = component::probe(&self.sandbox, &component).map_err(load)?;
        tracing::info!(name, digest, ?path, "loaded a pack");
        Ok(Pack {
            name: name.to_owned(),
            digest,
            path: path.map(Path::to_owned),
            beside: path.map(find::beside).unwrap_or_default(),
            sandbox: Arc::clone(&self.sandbox),
            probed,
        })
    }
}

/// Tells apart what people put into a packs folder by mistake.
fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];
    if wasmtime::Engine::detect_precompiled(bytes).is_some() || bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::Precompiled);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(LoadError::NotWasm);
    }
    if bytes.get(MAGIC.len()..MAGIC.len() + CORE_MODULE.len()) == Some(&CORE_MODULE[..]) {
        return Err(LoadError::CoreModule);
    }
    Ok(())
}
