//! Decides whether a loaded instance is reused or the model is loaded or
//! reloaded. Pure.

use super::listed_model::{ListedInstance, ListedModel};
use super::server_kind::ServerKind;

/// A loaded instance, with what this program recorded about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct LoadedCopy {
    pub(in crate::engine) instance: ListedInstance,
    /// `true` if this program loaded the instance.
    pub(in crate::engine) is_owned: bool,
    /// The context length in tokens that this program requested for that load.
    pub(in crate::engine) requested_context: Option<u32>,
}

/// The effect of a load on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum LoadMethod {
    /// A load adds an instance (LM Studio).
    AddsInstance,
    /// A load with another context length replaces the instance (Ollama).
    ReplacesInstance,
    /// A load cannot set the context length (llama.cpp's router, LM Studio
    /// before 0.4.0).
    ServerDecidesContext,
    /// The server was started with its model and cannot load (llama-server,
    /// vLLM).
    StartedWithModel,
}

/// Returns what a load of this model does on a server of this kind.
pub(super) fn load_method(kind: ServerKind, listed: &ListedModel) -> LoadMethod {
    match kind {
        ServerKind::LmStudio if listed.has_lmstudio_chat => LoadMethod::AddsInstance,
        ServerKind::LmStudio | ServerKind::LlamaRouter => LoadMethod::ServerDecidesContext,
        ServerKind::Ollama => LoadMethod::ReplacesInstance,
        ServerKind::LlamaServer | ServerKind::Vllm | ServerKind::OpenAi => {
            LoadMethod::StartedWithModel
        }
    }
}

/// The requirements on an instance.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct WantedInstance<'a> {
    /// Minimum context length in tokens; `None` accepts any.
    pub(in crate::engine) context: Option<u32>,
    /// Requires exactly `context` tokens instead of at least as many.
    pub(in crate::engine) is_exact: bool,
    /// The name of the required instance.
    pub(in crate::engine) name: Option<&'a str>,
    /// Reload the model even if it is already loaded.
    pub(in crate::engine) reload: bool,
}

/// The decision on how to get an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum LoadDecision {
    /// Use this instance.
    Reuse(ListedInstance),
    /// Load an instance, in addition to those loaded already.
    Load,
    /// Unload the instances of these IDs, then load.
    Reload(Vec<String>),
    /// The requirements cannot be met, for this reason.
    Refuse(String),
}

/// Decides how to get an instance of a model, given its loaded copies.
///
/// Instances that another program loaded are unloaded only on an explicit
/// `reload`, or replaced by a server that replaces instances.
pub(in crate::engine) fn decide_load(
    wanted: WantedInstance<'_>,
    copies: &[LoadedCopy],
    method: LoadMethod,
) -> LoadDecision {
    if wanted.reload {
        return match method {
            LoadMethod::StartedWithModel => LoadDecision::Refuse(
                "the server was started with its model and cannot reload it".to_owned(),
            ),
            _ if copies.is_empty() => LoadDecision::Load,
            _ => LoadDecision::Reload(instance_ids(copies.iter())),
        };
    }
    if matches!(
        method,
        LoadMethod::StartedWithModel | LoadMethod::ServerDecidesContext
    ) {
        let named = copies
            .iter()
            .find(|copy| Some(copy.instance.id.as_str()) == wanted.name);
        return match (named.or(copies.first()), method) {
            (Some(copy), _) => LoadDecision::Reuse(copy.instance.clone()),
            (None, _) => LoadDecision::Load,
        };
    }
    // An instance of unknown context length may be large enough; the user gets
    // a warning.
    let suits = |copy: &&LoadedCopy| match (wanted.context, copy.instance.context) {
        // A load that requested exactly this length and got another would get
        // the other reload.
        (Some(required), Some(effective)) if wanted.is_exact => {
            effective == required || copy.requested_context == Some(required)
        }
        // A server that gave less than requested would do so again.
        (Some(required), Some(effective)) => {
            effective >= required
                || copy
                    .requested_context
                    .is_some_and(|requested| requested >= required)
        }
        _ => true,
    };
    if let Some(name) = wanted.name
        && let Some(named) = copies.iter().find(|copy| copy.instance.id == name)
    {
        return if suits(&named) {
            LoadDecision::Reuse(named.instance.clone())
        } else if named.is_owned || method == LoadMethod::ReplacesInstance {
            LoadDecision::Reload(instance_ids(
                std::iter::once(named).filter(|_| method == LoadMethod::AddsInstance),
            ))
        } else {
            LoadDecision::Refuse(format!(
                "instance `{name}` has a context of {} tokens, and this program did not load it",
                named.instance.context.unwrap_or(0)
            ))
        };
    }
    // The smallest sufficient context is the fastest. Without a requirement,
    // take the first instance, as the server's own clients do.
    let suitable = copies.iter().filter(suits);
    let best = match wanted.context {
        Some(_) => suitable.min_by_key(|copy| copy.instance.context),
        None => suitable.into_iter().next(),
    };
    if let Some(best) = best {
        return LoadDecision::Reuse(best.instance.clone());
    }
    let owned = instance_ids(copies.iter().filter(|copy| copy.is_owned));
    match method {
        LoadMethod::AddsInstance if !owned.is_empty() => LoadDecision::Reload(owned),
        _ => LoadDecision::Load,
    }
}

fn instance_ids<'a>(copies: impl Iterator<Item = &'a LoadedCopy>) -> Vec<String> {
    copies.map(|copy| copy.instance.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decide_load_covers_every_case() {
        use LoadMethod::{AddsInstance, ReplacesInstance, ServerDecidesContext, StartedWithModel};
        let copy = |id: &str, context: u32, is_owned: bool| LoadedCopy {
            instance: ListedInstance {
                id: id.to_owned(),
                context: (context > 0).then_some(context),
            },
            is_owned,
            requested_context: None,
        };
        let any = WantedInstance::default();
        let tokens = |context: u32| WantedInstance {
            context: Some(context),
            ..any
        };
        let exactly = |context: u32| WantedInstance {
            is_exact: true,
            ..tokens(context)
        };
        let named = |instance, context| WantedInstance {
            name: Some(instance),
            context,
            ..any
        };
        let reload = WantedInstance {
            reload: true,
            ..any
        };
        let none: &[LoadedCopy] = &[];
        let foreign: &[LoadedCopy] = &[copy("m", 4096, false)];
        let owned: &[LoadedCopy] = &[copy("m", 4096, true)];
        let both: &[LoadedCopy] = &[copy("m", 16_384, false), copy("m:2", 8192, true)];
        let unknown: &[LoadedCopy] = &[copy("m", 0, false)];
        let reduced: &[LoadedCopy] = &[LoadedCopy {
            requested_context: Some(8192),
            ..copy("m", 4096, true)
        }];
        for (number, (wanted, copies, method, expected)) in [
            (tokens(8192), reduced, AddsInstance, "m"),
            (tokens(8193), reduced, AddsInstance, "reload m"),
            (exactly(8192), reduced, AddsInstance, "m"),
            (exactly(4000), reduced, AddsInstance, "reload m"),
            (any, none, AddsInstance, "load"),
            (any, foreign, AddsInstance, "m"),
            (any, both, AddsInstance, "m"),
            (tokens(4096), foreign, AddsInstance, "m"),
            (tokens(4000), foreign, AddsInstance, "m"),
            (tokens(4097), foreign, AddsInstance, "load"),
            (tokens(4097), owned, AddsInstance, "reload m"),
            (tokens(8000), both, AddsInstance, "m:2"),
            (tokens(9000), both, AddsInstance, "m"),
            (tokens(20_000), both, AddsInstance, "reload m:2"),
            (tokens(20_000), unknown, AddsInstance, "m"),
            (exactly(4000), owned, AddsInstance, "reload m"),
            (exactly(4000), foreign, AddsInstance, "load"),
            (exactly(8192), both, AddsInstance, "m:2"),
            (named("m:2", None), both, AddsInstance, "m:2"),
            (named("m:2", Some(9000)), both, AddsInstance, "reload m:2"),
            (named("m", Some(20_000)), both, AddsInstance, "refuse"),
            (named("m:3", None), both, AddsInstance, "m"),
            (reload, none, AddsInstance, "load"),
            (reload, both, AddsInstance, "reload m m:2"),
            (any, foreign, ReplacesInstance, "m"),
            (tokens(2048), foreign, ReplacesInstance, "m"),
            (tokens(8192), foreign, ReplacesInstance, "load"),
            (tokens(8192), owned, ReplacesInstance, "load"),
            (exactly(2048), owned, ReplacesInstance, "load"),
            (named("m", Some(8192)), owned, ReplacesInstance, "reload "),
            (reload, foreign, ReplacesInstance, "reload m"),
            (any, none, ServerDecidesContext, "load"),
            (tokens(8192), foreign, ServerDecidesContext, "m"),
            (reload, foreign, ServerDecidesContext, "reload m"),
            (any, none, StartedWithModel, "load"),
            (tokens(8192), foreign, StartedWithModel, "m"),
            (reload, foreign, StartedWithModel, "refuse"),
            (reload, none, StartedWithModel, "refuse"),
        ]
        .into_iter()
        .enumerate()
        {
            let decision = match decide_load(wanted, copies, method) {
                LoadDecision::Reuse(instance) => instance.id,
                LoadDecision::Load => "load".to_owned(),
                LoadDecision::Reload(ids) => format!("reload {}", ids.join(" ")),
                LoadDecision::Refuse(_) => "refuse".to_owned(),
            };
            assert_eq!(
                decision, expected,
                "case {number}: {wanted:?} {copies:?} {method:?}"
            );
        }
    }
}
