//! Checks the imports and exports of a compiled component and instantiates it.
//!
//! A trial instantiation verifies that the types are those of the contract; a changed
//! record is detected only there.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use super::bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use super::call::call_with_limits;
use super::error::{Error, GuestFailure, LoadError};
use super::limits::{EPOCH_TICK, SandboxLimits};
use super::wasi::{self, StoreState};

/// Stack size of a guest in bytes. wasmtime's default of 512 KiB is too small for
/// recursive parsers in JavaScript and Python.
const WASM_STACK_BYTES: usize = 1 << 20;

/// Address space in bytes that each memory of a guest reserves: the default limit of its size.
const MEMORY_RESERVATION_BYTES: u64 = 64 << 20;
/// Inaccessible address space in bytes around each memory.
const MEMORY_GUARD_BYTES: u64 = 64 << 10;

/// Prefix of the contract's interface names.
const CONTRACT_PACKAGE: &str = "lmstrix:prompts/";
/// Major and minor version of the contract that this host supports.
const CONTRACT_VERSION: (u64, u64) = (0, 1);
/// The WASI packages that the `wasi` module implements as stubs.
const STUBBED_WASI_PACKAGES: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Creates a wasmtime engine. Compiler and loader must use the same settings, because
/// wasmtime rejects code that was compiled with other settings.
pub(super) fn create_engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    // Packs return the same output for the same input on every machine.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // No pack needs 64-bit memories; disabling them reduces the attack surface.
    config.wasm_memory64(false);
    // By default, each memory reserves 4 GiB of address space, which clusters limit. A memory
    // that grows further is moved.
    config.memory_reservation(MEMORY_RESERVATION_BYTES);
    config.memory_reservation_for_growth(0);
    config.memory_guard_size(MEMORY_GUARD_BYTES);
    Engine::new(&config).map_err(|error| Error::Sandbox(format!("{error:#}")))
}

/// The wasmtime engine, linker and limits that all packs share.
pub(super) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<StoreState>,
    pub(super) limits: SandboxLimits,
}

impl Sandbox {
    pub(super) fn new(limits: SandboxLimits) -> Result<Arc<Self>, Error> {
        let engine = create_engine()?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(|error| Error::Sandbox(format!("{error:#}")))?;
        // A weak reference, so that the thread ends with the sandbox.
        let weak_engine = engine.weak();
        std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                while let Some(engine) = weak_engine.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(EPOCH_TICK);
                }
            })
            .map_err(|error| Error::Sandbox(error.to_string()))?;
        Ok(Arc::new(Self {
            engine,
            linker,
            limits,
        }))
    }

    /// Returns a new store for one call or for one processor of one job.
    pub(super) fn new_store(&self) -> Store<StoreState> {
        let mut store = Store::new(&self.engine, StoreState::new(self.limits));
        store.limiter(|state| &mut state.meter);
        store.set_max_component_handles(self.limits.handles);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().meter.check_time()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }
}

/// A component that is ready to be instantiated, and the interfaces that it exports.
#[derive(Clone)]
pub(super) struct ComponentExports {
    pub(super) instance_pre: InstancePre<StoreState>,
    pub(super) catalog: catalog::GuestIndices,
    pub(super) resolver: Option<resolver::GuestIndices>,
    pub(super) post_processor: Option<post_processor::GuestIndices>,
    /// The names of the imported and exported interfaces.
    pub(super) names: Arc<InterfaceNames>,
}

/// The names of the interfaces that a component imports and exports.
#[derive(Debug)]
pub(super) struct InterfaceNames {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl InterfaceNames {
    fn of(component: &Component, engine: &Engine) -> Self {
        let component_type = component.component_type();
        let imports = component_type.imports(engine);
        let exports = component_type.exports(engine);
        Self {
            imports: imports.map(|(name, _)| name.to_owned()).collect(),
            exports: exports.map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

/// Checks a compiled component and determines which interfaces it exports.
///
/// # Errors
/// Returns an error if the component imports something that is not available, does not
/// implement the contract, or fails in a trial instantiation.
pub(super) fn inspect(
    sandbox: &Sandbox,
    component: &Component,
) -> Result<ComponentExports, LoadError> {
    check_imports(sandbox, component)?;
    check_contract_version(sandbox, component)?;
    let mismatch = |error: wasmtime::Error| LoadError::TypeMismatch(format!("{error:#}"));
    let instance_pre = sandbox
        .linker
        .instantiate_pre(component)
        .map_err(mismatch)?;
    let mut store = sandbox.new_store();
    let instance = call_with_limits(
        &mut store,
        sandbox.limits.describe_time,
        "describe",
        0,
        |store| instance_pre.instantiate(store),
    )
    .map_err(LoadError::Instantiation)?;
    let exports = ComponentExports {
        catalog: catalog::GuestIndices::new(&instance_pre).map_err(mismatch)?,
        resolver: resolver::GuestIndices::new(&instance_pre).ok(),
        post_processor: post_processor::GuestIndices::new(&instance_pre).ok(),
        names: Arc::new(InterfaceNames::of(component, &sandbox.engine)),
        instance_pre,
    };
    exports
        .catalog
        .load(&mut store, &instance)
        .map_err(mismatch)?;
    if let Some(resolver) = &exports.resolver {
        resolver.load(&mut store, &instance).map_err(mismatch)?;
    }
    if let Some(post_processor) = &exports.post_processor {
        post_processor
            .load(&mut store, &instance)
            .map_err(mismatch)?;
    }
    Ok(exports)
}

/// Returns an error if the component imports anything but types and the stubbed WASI
/// packages.
fn check_imports(sandbox: &Sandbox, component: &Component) -> Result<(), LoadError> {
    for (name, item) in component.component_type().imports(&sandbox.engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(LoadError::ForbiddenImport(name.to_owned()));
        };
        let has_only_types = instance
            .exports(&sandbox.engine)
            .all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)));
        if !has_only_types
            && !STUBBED_WASI_PACKAGES
                .iter()
                .any(|package| name.starts_with(package))
        {
            return Err(LoadError::ForbiddenImport(name.to_owned()));
        }
    }
    Ok(())
}

/// Returns an error if no export belongs to the supported version of the contract. The
/// error names the side to update.
fn check_contract_version(sandbox: &Sandbox, component: &Component) -> Result<(), LoadError> {
    let component_type = component.component_type();
    let exports: Vec<String> = component_type
        .exports(&sandbox.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let contract_exports: Vec<&String> = exports
        .iter()
        .filter(|name| name.starts_with(CONTRACT_PACKAGE))
        .collect();
    let version = |name: &str| -> Option<(u64, u64)> {
        let (_, version) = name.split_once('@')?;
        let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    if contract_exports
        .iter()
        .any(|name| version(name) == Some(CONTRACT_VERSION))
    {
        return Ok(());
    }
    match contract_exports.first() {
        Some(export) => {
            let is_newer = version(export).is_some_and(|version| version > CONTRACT_VERSION);
            let update = if is_newer { "lmstrix-host" } else { "the pack" };
            Err(LoadError::ContractVersion {
                export: (*export).clone(),
                update,
            })
        }
        None if exports.is_empty() => Err(LoadError::NoContract("none".to_owned())),
        None => Err(LoadError::NoContract(exports.join(", "))),
    }
}

/// Instantiates a component under the limits, since instantiation runs guest code. The
/// error contains what the guest wrote.
pub(super) fn instantiate(
    sandbox: &Sandbox,
    exports: &ComponentExports,
) -> Result<(Store<StoreState>, wasmtime::component::Instance), (GuestFailure, String)> {
    let mut store = sandbox.new_store();
    let result = call_with_limits(
        &mut store,
        sandbox.limits.describe_time,
        "describe",
        0,
        |store| exports.instance_pre.instantiate(store),
    );
    match result {
        Ok(instance) => Ok((store, instance)),
        Err(cause) => Err((cause, store.data().output.text())),
    }
}
