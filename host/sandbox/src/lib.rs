//! Prompt packs of lmstrix-host: finds, compiles, caches and calls WebAssembly components
//! in a sandbox with resource limits.
//!
//! Only this crate uses wasmtime and the generated types of `wit/prompts.wit`; its
//! public interface contains neither. It does not depend on engines, sinks or the
//! command line.

mod bindings;
mod bundle;
mod cache;
mod call;
mod captured_output;
mod check;
mod compile;
mod component;
mod contract;
mod convert;
mod discovery;
mod error;
mod limits;
mod loaded;
mod lock_file;
mod notice;
mod pack_files;
mod wasi;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fs_err as fs;

use cache::FileFingerprint;
use component::{ComponentExports, Sandbox};
use discovery::{FileCheckError, SidecarFiles};

pub use bundle::{bundle, unbundle};
pub use cache::CompiledPackCache;
pub use captured_output::WrittenLines;
pub use check::{Finding, Severity, check};
pub use compile::{CHILD_COMMAND, Compiler, run_compile_child};
pub use contract::{
    ALLOWED_EXTENSIONS, FinishedText, ModelFacts, PackContents, PackItemInfo, ParamInfo,
    ProcessorContext, ProcessorRef, PushOutput, ResolveRequest, ResolvedPrompt, StopReason,
    TextFile,
};
pub use discovery::{
    FoundPack, LOCK_FILE, PackFolder, PackFolders, RESERVED_NAMES, SIDECAR_BYTES_MAX, UnusedFile,
    check_name,
};
pub use error::{ContractError, Error, GuestError, GuestFailure, LoadError};
pub use limits::{ByteSize, LimitExceeded, SandboxLimits};
pub use loaded::{Pack, Processor, THREAD_STACK_BYTES};
pub use lock_file::{LockFile, LockedPack, PackRules, differences};
pub use notice::PackNotice;
pub use pack_files::{Digest, PackDigests, PackFile, PackFiles};

/// The name of the built-in pack.
pub const STANDARD_PACK: &str = "standard";

/// The component of the standard pack.
pub const STANDARD_WASM: &[u8] = include_bytes!("../assets/standard.wasm");

/// The SHA-256 digest of [`STANDARD_WASM`]. Computing it took a tenth of a short run.
const STANDARD_DIGEST: &str = include_str!("../assets/standard.wasm.sha256");

/// The contract between this host and packs, in WIT.
pub const CONTRACT: &str = include_str!("../wit/prompts.wit");

/// The prompt file of the standard pack, with the built-in prompts.
pub const STOCK_PROMPTS: &str = include_str!("../assets/stock.toml");

type OnNotice = dyn Fn(PackNotice<'_>) + Send + Sync;

/// Loads packs. Created once per process.
pub struct PackLoader {
    sandbox: Arc<Sandbox>,
    /// Components that were loaded and checked, by digest.
    components: Mutex<BTreeMap<String, ComponentExports>>,
    cache: CompiledPackCache,
    compiler: Compiler,
    on_notice: Box<OnNotice>,
}

impl PackLoader {
    /// Starts the sandbox. `on_notice` receives the notices of all loads.
    ///
    /// # Errors
    /// Returns an error if the sandbox cannot be started on this machine.
    pub fn new(
        limits: SandboxLimits,
        cache: CompiledPackCache,
        compiler: Compiler,
        on_notice: impl Fn(PackNotice<'_>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let sandbox = Sandbox::new(limits)?;
        Ok(Self {
            sandbox,
            components: Mutex::default(),
            cache,
            compiler,
            on_notice: Box::new(on_notice),
        })
    }

    /// Loads the standard pack. It is trusted and therefore compiled in this process.
    ///
    /// # Errors
    /// Returns an error if the pack cannot be compiled or mapped into memory.
    pub fn load_standard(&self) -> Result<Pack, Error> {
        self.build_pack(
            STANDARD_PACK,
            STANDARD_DIGEST.to_owned(),
            None,
            || Ok(STANDARD_WASM.into()),
            &Compiler::InProcess,
        )
    }

    /// Loads a prompt file as a pack: the standard pack with this file.
    fn load_prompt_file(&self, name: &str, path: &Path) -> Result<Pack, Error> {
        let standard = self.load_standard()?;
        Ok(Pack {
            name: name.to_owned(),
            path: Some(path.to_owned()),
            ..standard
        })
    }

    /// Returns the limits of packs.
    #[must_use]
    pub fn limits(&self) -> &SandboxLimits {
        &self.sandbox.limits
    }

    /// Loads a pack that was found in a packs folder.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a usable pack.
    pub fn load(&self, pack: &FoundPack) -> Result<Pack, Error> {
        let loaded = self.load_path(&pack.name, &pack.path, pack.allows_links)?;
        Ok(with_sidecar_files(loaded, &pack.path, pack.allows_links))
    }

    /// Loads a pack from a file at any location. Its name is the file stem.
    ///
    /// # Errors
    /// Returns an error as [`PackLoader::load`] does, and if the file stem is not a
    /// valid pack name.
    pub fn load_file(&self, path: &Path) -> Result<Pack, Error> {
        let pack = FoundPack::of_file(path)?;
        let loaded = self.load_path(&pack.name, path, true)?;
        // The user named the pack, and not the files beside it.
        Ok(with_sidecar_files(loaded, path, pack.allows_links))
    }

    /// Returns whether the cache has the compiled code of a file, as it is now.
    #[must_use]
    pub fn is_compiled(&self, path: &Path) -> bool {
        if discovery::is_prompt_file(path) {
            return self.is_standard_compiled();
        }
        let fingerprint = || {
            let metadata = fs::metadata(path).ok()?;
            FileFingerprint::new(&fs::canonicalize(path).ok()?, &metadata)
        };
        fingerprint()
            .and_then(|fingerprint| self.cache.cached_digest(&fingerprint))
            .is_some_and(|digest| self.cache.contains(&self.sandbox.engine, &digest))
    }

    /// Returns whether the cache has the compiled code of the standard pack.
    #[must_use]
    pub fn is_standard_compiled(&self) -> bool {
        self.cache.contains(&self.sandbox.engine, STANDARD_DIGEST)
    }

    /// Loads a pack without the files beside it.
    fn load_path(&self, name: &str, path: &Path, allows_links: bool) -> Result<Pack, Error> {
        let read_error = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let load_error = |cause| Error::Load {
            pack: name.to_owned(),
            path: Some(path.to_owned()),
            cause,
        };
        let metadata =
            discovery::check_file(path, allows_links, &self.sandbox.limits).map_err(|error| {
                match error {
                    FileCheckError::Io(source) => read_error(source),
                    FileCheckError::Load(cause) => load_error(cause),
                }
            })?;
        if discovery::is_prompt_file(path) {
            return self.load_prompt_file(name, path);
        }
        let canonical_path = fs::canonicalize(path).map_err(read_error)?;
        let fingerprint = FileFingerprint::new(&canonical_path, &metadata);
        let cached_digest = fingerprint
            .as_ref()
            .and_then(|fingerprint| self.cache.cached_digest(fingerprint))
            .filter(|digest| self.cache.contains(&self.sandbox.engine, digest));
        if let Some(digest) = cached_digest {
            let wasm = || {
                let wasm = fs::read(path).map_err(read_error)?;
                // The file may have been replaced after its metadata was read.
                if cache::sha256(&wasm) != digest {
                    return Err(load_error(LoadError::Compile(
                        "the file changed while it was loaded".to_owned(),
                    )));
                }
                Ok(wasm)
            };
            return self.build_pack(name, digest.clone(), Some(path), wasm, &self.compiler);
        }
        let wasm = fs::read(path).map_err(read_error)?;
        check_file_type(&wasm).map_err(load_error)?;
        if bundle::is_bundle(&wasm) {
            (self.on_notice)(PackNotice::Bundle { path });
        }
        let digest = cache::sha256(&wasm);
        let pack = self.build_pack(
            name,
            digest.clone(),
            Some(path),
            || Ok(wasm),
            &self.compiler,
        )?;
        if let Some(fingerprint) = fingerprint {
            self.cache.store_digest(&fingerprint, &digest);
        }
        Ok(pack)
    }

    /// Returns the pack with this SHA-256 digest. Its component is loaded once.
    fn build_pack(
        &self,
        name: &str,
        digest: String,
        path: Option<&Path>,
        wasm: impl FnOnce() -> Result<Vec<u8>, Error>,
        compiler: &Compiler,
    ) -> Result<Pack, Error> {
        let known = self.components.lock().ok();
        let known = known.and_then(|components| components.get(&digest).cloned());
        let exports = match known {
            Some(exports) => exports,
            None => {
                let exports = self.load_component(name, &digest, path, wasm, compiler)?;
                if let Ok(mut components) = self.components.lock() {
                    components.insert(digest.clone(), exports.clone());
                }
                exports
            }
        };
        Ok(Pack {
            name: name.to_owned(),
            digest,
            path: path.map(Path::to_owned),
            sidecar_files: SidecarFiles::default(),
            sandbox: Arc::clone(&self.sandbox),
            exports,
        })
    }

    /// Loads a component from the cache, or compiles it, and checks its imports and exports.
    /// `wasm` is called only if the component must be compiled.
    fn load_component(
        &self,
        name: &str,
        digest: &str,
        path: Option<&Path>,
        wasm: impl FnOnce() -> Result<Vec<u8>, Error>,
        compiler: &Compiler,
    ) -> Result<ComponentExports, Error> {
        let load_error = |cause| Error::Load {
            pack: name.to_owned(),
            path: path.map(Path::to_owned),
            cause,
        };
        let engine = &self.sandbox.engine;
        let component = match self.cache.load(engine, digest) {
            Some(component) => component,
            None => {
                let _lock = self.cache.lock(digest);
                // Another process may have compiled it while this one waited for the lock.
                match self.cache.load(engine, digest) {
                    Some(component) => component,
                    None => {
                        let wasm = wasm()?;
                        let bytes = wasm.len() as u64;
                        (self.on_notice)(PackNotice::Compiling { name, bytes });
                        let code = compiler
                            .compile(&wasm, &self.sandbox.limits)
                            .map_err(load_error)?;
                        self.cache
                            .store(engine, digest, &code, &*self.on_notice)
                            .map_err(|error| load_error(LoadError::Compile(error)))?
                    }
                }
            }
        };
        let exports = component::inspect(&self.sandbox, &component).map_err(load_error)?;
        tracing::info!(name, digest, ?path, "loaded pack");
        Ok(exports)
    }
}

/// Adds the files beside a pack.
fn with_sidecar_files(pack: Pack, path: &Path, allows_links: bool) -> Pack {
    Pack {
        sidecar_files: discovery::read_sidecar_files(path, allows_links),
        ..pack
    }
}

/// Returns an error if the file is not a WebAssembly component, by its first bytes.
fn check_file_type(bytes: &[u8]) -> Result<(), LoadError> {
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
