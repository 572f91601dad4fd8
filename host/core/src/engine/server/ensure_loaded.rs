//! Ensures that an instance of the selected model is loaded. Reuses a suitable
//! one; otherwise loads one under the server's lock, with a record of
//! ownership that survives a kill of this process.

use std::time::{Duration, Instant};

use lmstrix_inference::Event;

use super::listed_model::ListedInstance;
use super::load_decision::{
    LoadDecision, LoadMethod, LoadedCopy, WantedInstance, decide_load, load_method,
};
use super::memory_check::check_memory;
use super::server_instance::ServerInstance;
use super::server_kind::ServerKind;
use super::server_target::ServerTarget;
use super::{llama_router, load, model_list, router_props};
use crate::engine::Error;
use crate::engine::ownership::Ownership;

/// Interval between requests for the state of a model that is loading.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

impl ServerTarget {
    /// Reuses or loads an instance, and reports progress through `emit`.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or the model cannot be
    /// loaded as required.
    pub(in crate::engine) async fn ensure_loaded(
        &self,
        emit: &mut (dyn FnMut(Event) + Send),
    ) -> Result<ServerInstance, Error> {
        let start = Instant::now();
        let found = find_or_load(self, emit).await?;
        self.instance_of(found, start).await
    }

    /// Finds or loads an instance in place of `gone`, which another program or the server
    /// unloaded. It has at least the same context, and later inferences use it, too.
    ///
    /// # Errors
    /// Returns the errors of [`Self::ensure_loaded`].
    pub(super) async fn ensure_again(
        &self,
        gone: &ServerInstance,
        emit: &mut (dyn FnMut(Event) + Send),
    ) -> Result<ServerInstance, Error> {
        let start = Instant::now();
        let target = Self {
            requested_context: self.requested_context.or(gone.context),
            ..self.clone()
        };
        let wanted = WantedInstance {
            context: target.requested_context,
            ..WantedInstance::default()
        };
        let method = load_method(target.server.kind, &target.listed);
        let found = find_or_load_locked(&target, wanted, method, emit).await?;
        let mut instance = target.instance_of(found, start).await?;
        let known = self.current_instance(gone);
        // Another inference of this process was faster.
        instance.is_owned |= known.is_owned && known.id == instance.id && known != *gone;
        self.set_current_instance(&instance);
        Ok(instance)
    }

    /// Completes what is known of an instance that was found or loaded since `start`.
    async fn instance_of(
        &self,
        (mut loaded, is_new, mut warnings): (ListedInstance, bool, Vec<String>),
        start: Instant,
    ) -> Result<ServerInstance, Error> {
        if self.server.kind == ServerKind::LlamaRouter && loaded.context.is_none() {
            // The router's list has no context lengths.
            loaded.context = router_props::context(&self.server, &loaded.id).await;
        }
        let declared = self.listed.declared;
        warnings.extend(context_warning(
            loaded.context,
            declared,
            self.requested_context,
        ));
        warnings.extend(ttl_warning(self, is_new));
        Ok(ServerInstance {
            load_s: is_new.then(|| start.elapsed().as_secs_f64()),
            is_owned: is_new,
            id: loaded.id,
            context: loaded.context,
            declared,
            warnings,
        })
    }
}

/// Returns an instance, `true` if this run loaded it, and warnings.
async fn find_or_load(
    target: &ServerTarget,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(ListedInstance, bool, Vec<String>), Error> {
    let server = &target.server;
    let method = load_method(server.kind, &target.listed);
    let wanted = WantedInstance {
        context: target.requested_context,
        is_exact: target.lifecycle.exact_context,
        name: target.requested_instance.as_deref(),
        reload: target.lifecycle.reload,
    };
    let copies = loaded_copies(&target.listed.instances, |_| (false, None));
    match decide_load(wanted, &copies, method) {
        LoadDecision::Reuse(loaded) if is_ready(target, &loaded).await? => {
            return Ok((loaded, false, Vec::new()));
        }
        LoadDecision::Refuse(_) if method == LoadMethod::AddsInstance => {}
        LoadDecision::Refuse(reason) => return Err(refused_error(target, reason)),
        // The server cannot load and lists no instance, so use the model's
        // name.
        LoadDecision::Load if method == LoadMethod::StartedWithModel => {
            let id = target.listed.id.clone();
            return Ok((ListedInstance { id, context: None }, false, Vec::new()));
        }
        _ => {}
    }
    emit(Event::Loading(None));
    find_or_load_locked(target, wanted, method, emit).await
}

/// Returns an instance, `true` if this run loaded it, and warnings. Takes the server's
/// lock, so that several processes do not load the same model.
async fn find_or_load_locked(
    target: &ServerTarget,
    wanted: WantedInstance<'_>,
    method: LoadMethod,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(ListedInstance, bool, Vec<String>), Error> {
    let server = &target.server;
    let mut ownership =
        Ownership::lock(&target.lifecycle.state_dir, server.client.base_url()).await?;
    let mut reload = wanted.reload;
    loop {
        // The previous holder of the lock may have loaded a suitable instance.
        let models = model_list::list_models(server).await?;
        ownership.reconcile(&model_list::all_instances(&models))?;
        let Some(listed) = models
            .into_iter()
            .find(|model| model.id == target.listed.id)
        else {
            return Err(refused_error(
                target,
                "the server no longer lists the model".to_owned(),
            ));
        };
        // An instance that another process uses is never reloaded.
        let is_shared = target.is_shared();
        let copies = loaded_copies(&listed.instances, |instance| {
            let is_owned = ownership.is_owned(&instance.id, instance.context);
            let requested_context = ownership.requested_context(&instance.id);
            (
                is_owned && !is_shared,
                requested_context.filter(|_| is_owned),
            )
        });
        match decide_load(WantedInstance { reload, ..wanted }, &copies, method) {
            LoadDecision::Reuse(loaded) => {
                if wait_until_ready(target, &loaded).await? {
                    return Ok((loaded, false, Vec::new()));
                }
            }
            LoadDecision::Refuse(reason) => return Err(refused_error(target, reason)),
            LoadDecision::Reload(ids) => {
                if target.is_shared() {
                    return Err(refused_error(
                        target,
                        "another process uses it, so it is not reloaded".to_owned(),
                    ));
                }
                // Do not unload anything for a load that cannot succeed. The
                // load itself reports the warnings.
                let _warnings = check_memory(target).await?;
                for id in ids {
                    let lms = target.lifecycle.lms_path.as_deref();
                    load::unload(server, &target.listed.id, &id, lms).await?;
                    ownership.release(&id)?;
                }
                // The unload that `reload` requires is done.
                reload = false;
            }
            LoadDecision::Load => {
                let ids_before = listed
                    .instances
                    .iter()
                    .map(|instance| instance.id.clone())
                    .collect();
                return load_with_ownership(target, &mut ownership, ids_before, emit).await;
            }
        }
    }
}

/// Loads an instance and records the ownership. `ids_before` holds the IDs of
/// the instances that were loaded before.
async fn load_with_ownership(
    target: &ServerTarget,
    ownership: &mut Ownership,
    ids_before: Vec<String>,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(ListedInstance, bool, Vec<String>), Error> {
    let mut warnings = check_memory(target).await?;
    let model = &target.listed.id;
    ownership.begin_load(model, target.context_to_load(), ids_before)?;
    match load::load(target, emit).await {
        Ok(result) => {
            let loaded = result.loaded;
            // An instance that another program loaded in between is not owned.
            let owned = result
                .is_owned
                .then_some((loaded.id.as_str(), loaded.context));
            ownership.finish_load(model, owned)?;
            warnings.extend(result.warnings);
            Ok((loaded, result.is_owned, warnings))
        }
        Err(error) => {
            // After a lost connection the load may still go on at the server,
            // so the record stays. It is dropped later if no instance appears.
            if !matches!(error, Error::Unreachable { .. }) {
                ownership.finish_load(model, None)?;
            }
            Err(error)
        }
    }
}

/// Combines the listed instances with their `ownership`: whether this program
/// loaded the instance, and the context length that it requested.
fn loaded_copies(
    instances: &[ListedInstance],
    ownership: impl Fn(&ListedInstance) -> (bool, Option<u32>),
) -> Vec<LoadedCopy> {
    instances
        .iter()
        .map(|instance| {
            let (is_owned, requested_context) = ownership(instance);
            LoadedCopy {
                instance: instance.clone(),
                is_owned,
                requested_context,
            }
        })
        .collect()
}

fn refused_error(target: &ServerTarget, reason: String) -> Error {
    Error::Refused {
        engine: target.server.display_name(),
        model: target.listed.id.clone(),
        reason,
    }
}

async fn is_listed(target: &ServerTarget, loaded: &ListedInstance) -> Result<bool, Error> {
    let models = model_list::list_models(&target.server).await?;
    let mut instances = models.iter().flat_map(|model| &model.instances);
    Ok(instances.any(|instance| instance.id == loaded.id))
}

/// Waits until a listed instance has loaded completely. Returns `false` if the server
/// no longer lists it.
async fn wait_until_ready(target: &ServerTarget, loaded: &ListedInstance) -> Result<bool, Error> {
    while !is_ready(target, loaded).await? {
        tokio::time::sleep(POLL_INTERVAL).await;
        if !is_listed(target, loaded).await? {
            break;
        }
    }
    is_listed(target, loaded).await
}

/// Returns `true` if a listed instance has loaded completely. LM Studio lists
/// an instance from the start of its load, and only its older API reports the
/// end of the load. llama.cpp's router reports both in its list.
async fn is_ready(target: &ServerTarget, loaded: &ListedInstance) -> Result<bool, Error> {
    if target.server.kind == ServerKind::LlamaRouter {
        return llama_router::is_ready(&target.server, &loaded.id).await;
    }
    if target.server.kind != ServerKind::LmStudio || !target.listed.has_lmstudio_chat {
        return Ok(true);
    }
    let names = [loaded.id.as_str(), target.listed.id.as_str()];
    match model_list::lmstudio_state(&target.server, &names).await {
        Ok(state) => Ok(state.is_none_or(|state| state == "loaded")),
        Err(error) if error.is_unreachable() => Err(error),
        // A server error in the middle of a load does not concern the model.
        Err(Error::Server { fault, .. }) if fault.status.is_some_and(|status| status >= 500) => {
            Ok(false)
        }
        Err(_) => Ok(true),
    }
}

/// Returns a warning if the server does not unload the model after the requested time.
/// `is_new` is true for an instance that was loaded now.
fn ttl_warning(target: &ServerTarget, is_new: bool) -> Option<String> {
    target.lifecycle.ttl?;
    match target.server.kind {
        ServerKind::Ollama => None,
        // The load request has no such key; the chat request has one for models that LM Studio
        // loads for it.
        ServerKind::LmStudio if !is_new => None,
        ServerKind::LmStudio => Some(
            "LM Studio keeps a model that was loaded by request until it is unloaded; --ttl has \
             no effect"
                .to_owned(),
        ),
        kind => Some(format!(
            "{kind} does not unload models after a time; --ttl has no effect"
        )),
    }
}

/// Returns a warning if the context is smaller than the user may expect, which
/// is the most common reason for answers that ignore half of the text.
fn context_warning(
    effective: Option<u32>,
    declared: Option<u32>,
    requested: Option<u32>,
) -> Option<String> {
    match (effective, declared, requested) {
        (Some(effective), _, Some(requested)) if effective < requested => Some(format!(
            "requested a context of {requested} tokens, but the model is loaded with {effective}"
        )),
        (Some(effective), Some(declared), None) if effective < declared => Some(format!(
            "the model is loaded with {effective} of its {declared} tokens of context"
        )),
        (None, _, Some(requested)) => Some(format!(
            "requested a context of {requested} tokens, but the server does not report the actual one"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_warning_reports_smaller_context() {
        for (effective, declared, requested, expected) in [
            (Some(4096), Some(131_072), None, true),
            (Some(4096), Some(4096), None, false),
            (Some(4096), Some(131_072), Some(8192), true),
            (Some(8192), Some(131_072), Some(8192), false),
            (None, None, Some(8192), true),
            (None, Some(8192), None, false),
        ] {
            let warning = context_warning(effective, declared, requested);
            assert_eq!(
                warning.is_some(),
                expected,
                "{effective:?} {declared:?} {requested:?}"
            );
        }
    }
}
