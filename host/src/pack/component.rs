//! From a component's code to something that can be called: what it imports
//! is checked, what it offers is probed, and one trial instantiation shows
//! whether its types are those of the contract (a changed record shows only
//! there).

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use super::bindings::exports::lmstrix::prompts::{catalog, post_processor, resolver};
use super::call::guarded;
use super::error::{Cause, Error, LoadError};
use super::limits::{EPOCH_TICK, Limits};
use super::wasi::{self, State};

/// The stack of a guest. The default of 512 KiB is too small for recursive
/// parsers in JavaScript and Python.
const WASM_STACK_BYTES: usize = 1 << 20;

/// The package whose interfaces make a component a pack.
const PACKAGE: &str = "lmstrix:prompts/";
/// The track of the contract that this host speaks.
const TRACK: (u64, u64) = (0, 1);
/// WASI packages that `wasi` answers, by denying.
const ANSWERED: [&str; 4] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/"];

/// The settings of the compiler and of the loader: they must be the same, or
/// compiled code is refused.
pub(super) fn engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    // The same pack on the same input gives the same text on every machine.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // Less of wasmtime means less that can be attacked, and no pack needs it.
    config.wasm_memory64(false);
    Engine::new(&config).map_err(|e| Error::Sandbox(format!("{e:#}")))
}

/// wasmtime's engine with everything that all packs share.
pub(super) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) limits: Limits,
}

impl Sandbox {
    pub(super) fn new(limits: Limits) -> Result<Arc<Self>, Error> {
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(|e| Error::Sandbox(format!("{e:#}")))?;
        let ticking = engine.weak();
        // Holds the engine weakly, so that the thread ends with the sandbox.
        std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                while let Some(engine) = ticking.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(EPOCH_TICK);
                }
            })
            .map_err(|e| Error::Sandbox(e.to_string()))?;
        Ok(Arc::new(Self {
            engine,
            linker,
            limits,
        }))
    }

    /// A fresh store. It lives for one call, or for one processor of one job.
    pub(super) fn store(&self) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(self.limits));
        store.limiter(|state| &mut state.meter);
        store.set_max_component_handles(self.limits.handles);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().meter.check_time()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }
}

/// What a component offers, ready to be instantiated.
#[derive(Clone)]
pub(super) struct Probed {
    pub(super) pre: InstancePre<State>,
    pub(super) catalog: catalog::GuestIndices,
    pub(super) resolver: Option<resolver::GuestIndices>,
    pub(super) post: Option<post_processor::GuestIndices>,
}

/// Checks a compiled component and finds out what it offers.
pub(super) fn probe(sandbox: &Sandbox, component: &Component) -> Result<Probed, LoadError> {
    check_imports(sandbox, component)?;
    check_track(sandbox, component)?;
    let shape = |e: wasmtime::Error| LoadError::Shape(format!("{e:#}"));
    let pre = sandbox.linker.instantiate_pre(component).map_err(shape)?;
    let mut store = sandbox.store();
    let instance = guarded(
        &mut store,
        sandbox.limits.describe_time,
        "describe",
        0,
        |store| pre.instantiate(store),
    )
    .map_err(LoadError::Start)?;
    let probed = Probed {
        catalog: catalog::GuestIndices::new(&pre).map_err(shape)?,
        resolver: resolver::GuestIndices::new(&pre).ok(),
        post: post_processor::GuestIndices::new(&pre).ok(),
        pre,
    };
    probed.catalog.load(&mut store, &instance).map_err(shape)?;
    if let Some(resolver) = &probed.resolver {
        resolver.load(&mut store, &instance).map_err(shape)?;
    }
    if let Some(post) = &probed.post {
        post.load(&mut store, &instance).map_err(shape)?;
    }
    Ok(probed)
}

fn check_imports(sandbox: &Sandbox, component: &Component) -> Result<(), LoadError> {
    for (name, item) in component.component_type().imports(&sandbox.engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(LoadError::Import(name.to_owned()));
        };
        let only_types = instance
            .exports(&sandbox.engine)
            .all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)));
        if !only_types && !ANSWERED.iter().any(|package| name.starts_with(package)) {
            return Err(LoadError::Import(name.to_owned()));
        }
    }
    Ok(())
}

/// A pack of another track is told which side to update.
fn check_track(sandbox: &Sandbox, component: &Component) -> Result<(), LoadError> {
    let ty = component.component_type();
    let exports: Vec<String> = ty
        .exports(&sandbox.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let ours: Vec<&String> = exports
        .iter()
        .filter(|name| name.starts_with(PACKAGE))
        .collect();
    let track = |name: &str| -> Option<(u64, u64)> {
        let (_, version) = name.split_once('@')?;
        let mut numbers = version.split('.').map(|n| n.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    if ours.iter().any(|name| track(name) == Some(TRACK)) {
        return Ok(());
    }
    match ours.first() {
        Some(found) => {
            let newer = track(found).is_some_and(|it| it > TRACK);
            let update = if newer { "lmstrix-host" } else { "the pack" };
            Err(LoadError::Track {
                found: (*found).clone(),
                update,
            })
        }
        None if exports.is_empty() => Err(LoadError::NoContract("no exports at all".to_owned())),
        None => Err(LoadError::NoContract(exports.join(", "))),
    }
}

/// Instantiates under the limits; instantiating runs the guest's own code.
pub(super) fn instantiate(
    sandbox: &Sandbox,
    probed: &Probed,
) -> Result<(Store<State>, wasmtime::component::Instance), (Cause, String)> {
    let mut store = sandbox.store();
    let result = guarded(
        &mut store,
        sandbox.limits.describe_time,
        "describe",
        0,
        |store| probed.pre.instantiate(store),
    );
    match result {
        Ok(instance) => Ok((store, instance)),
        Err(cause) => Err((cause, store.data().output.text())),
    }
}
