//! An instance that is loaded: what is there is used, what is missing is
//! loaded, under the server's lock, with a claim that survives a kill.

use std::time::{Duration, Instant};

use super::decide::{Decision, There, Want, Way, decide};
use super::models::{self, Listed, Loaded};
use super::{Instance, Kind, Target, lms, load, router};
use crate::engine::Error;
use crate::engine::claims::{self, Claims};
use crate::engine::memory::{Memory, Need, gigabytes};
use crate::inference::Event;

/// How often a model that somebody else is loading is asked after.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What servers load a model with when nobody says anything.
const USUAL_CONTEXT: u32 = 4096;

/// How the server of this model loads.
pub(super) fn way(kind: Kind, listed: &Listed) -> Way {
    match kind {
        Kind::LmStudio if listed.has_studio_chat => Way::Stacks,
        Kind::LmStudio | Kind::LlamaRouter => Way::Given,
        Kind::Ollama => Way::Replaces,
        Kind::LlamaServer | Kind::Vllm | Kind::OpenAi => Way::Fixed,
    }
}

pub(super) async fn ensure(
    target: &Target,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<Instance, Error> {
    let start = Instant::now();
    let (mut loaded, is_new, mut warnings) = instance(target, emit).await?;
    if target.server.kind == Kind::LlamaRouter && loaded.context.is_none() {
        // Its list does not say.
        loaded.context = router::context(&target.server, &loaded.id).await;
    }
    let declared = target.listed.declared;
    warnings.extend(of_context(loaded.context, declared, target.asked_context));
    Ok(Instance {
        load_s: is_new.then(|| start.elapsed().as_secs_f64()),
        is_ours: is_new,
        id: loaded.id,
        context: loaded.context,
        declared,
        warnings,
    })
}

async fn instance(
    target: &Target,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(Loaded, bool, Vec<String>), Error> {
    let server = &target.server;
    let way = way(server.kind, &target.listed);
    let want = Want {
        context: target.asked_context,
        exact: target.life.exact,
        instance: target.instance.as_deref(),
        reload: target.life.reload,
    };
    let seen = there(&target.listed.loaded, |_| (false, None));
    match decide(want, &seen, way) {
        Decision::Reuse(loaded) if is_ready(target, &loaded).await? => {
            return Ok((loaded, false, Vec::new()));
        }
        Decision::Refuse(_) if way == Way::Stacks => {}
        Decision::Refuse(why) => return Err(refused(target, why)),
        // Nothing to load by: the model's name is all there is.
        Decision::Load if way == Way::Fixed => {
            let id = target.listed.id.clone();
            return Ok((Loaded { id, context: None }, false, Vec::new()));
        }
        _ => {}
    }
    emit(Event::Loading(None));
    let mut claims = Claims::lock(&target.life.state, server.client.base()).await?;
    let mut reload = want.reload;
    loop {
        // Whoever had the lock before us may have loaded just what we want.
        let all = models::list(server).await?;
        let instances: Vec<(String, Option<u32>)> = all
            .iter()
            .flat_map(|it| it.loaded.iter().map(|it| (it.id.clone(), it.context)))
            .collect();
        claims.reconcile(&instances)?;
        let Some(listed) = all.into_iter().find(|it| it.id == target.listed.id) else {
            return Err(refused(
                target,
                "the server does not list it any more".to_owned(),
            ));
        };
        let now = there(&listed.loaded, |it| {
            (claims.is_ours(&it.id, it.context), claims.asked(&it.id))
        });
        match decide(Want { reload, ..want }, &now, way) {
            Decision::Reuse(loaded) => {
                while !is_ready(target, &loaded).await? {
                    tokio::time::sleep(ASK_AGAIN).await;
                    if !is_listed(target, &loaded).await? {
                        break;
                    }
                }
                if is_listed(target, &loaded).await? {
                    return Ok((loaded, false, Vec::new()));
                }
            }
            Decision::Refuse(why) => return Err(refused(target, why)),
            Decision::Reload(ids) => {
                // Not to end up with nothing for one that cannot be had.
                let _said_later = check_memory(target).await?;
                for id in ids {
                    let lms = target.life.lms.as_deref();
                    load::unload(server, &target.listed.id, &id, lms).await?;
                    claims.release(&id)?;
                }
                // What was to go has gone.
                reload = false;
            }
            Decision::Load => {
                let before = listed.loaded.iter().map(|it| it.id.clone()).collect();
                return new(target, &mut claims, before, emit).await;
            }
        }
    }
}

/// Loads under a claim.
async fn new(
    target: &Target,
    claims: &mut Claims,
    before: Vec<String>,
    emit: &mut (dyn FnMut(Event) + Send),
) -> Result<(Loaded, bool, Vec<String>), Error> {
    let mut warnings = check_memory(target).await?;
    let model = &target.listed.id;
    claims.claim(model, target.load_context(), before)?;
    match load::load(target, emit).await {
        Ok(got) => {
            let loaded = got.loaded;
            // What somebody else loaded in between is nobody's to unload here.
            let ours = got.is_ours.then_some((loaded.id.as_str(), loaded.context));
            claims.loaded(model, ours)?;
            warnings.extend(got.warnings);
            Ok((loaded, got.is_ours, warnings))
        }
        Err(error) => {
            // A connection that broke may have left a load that goes on: the
            // claim stays, and is dropped when nothing comes of it.
            if !matches!(error, Error::Unreachable { .. }) {
                claims.loaded(model, None)?;
            }
            Err(error)
        }
    }
}

/// How long a load that was begun may take to show in the server's list.
const SHOWS_WITHIN: Duration = Duration::from_secs(1);

impl Target {
    /// The context of an instance that somebody else loaded and that a load
    /// with another one would replace.
    #[expect(
        clippy::option_option,
        reason = "an instance, with or without a known context"
    )]
    pub(in crate::engine) fn would_replace(&self) -> Option<Option<u32>> {
        let loaded = self.loaded.as_ref()?;
        let theirs = way(self.server.kind, &self.listed) == Way::Replaces && {
            let claims = claims::peek(&self.life.state, self.place());
            !claims::is_ours(&claims, &loaded.id, loaded.context)
        };
        theirs.then_some(loaded.context)
    }

    /// Unloads what this process has loaded of the model, and what comes of a
    /// load that it began and did not wait for; whether there was any. It goes
    /// on until nothing is left: a server may refuse in the middle of a load.
    pub(in crate::engine) async fn unload_own(&self) -> Result<bool, Error> {
        let (server, model) = (&self.server, &self.listed.id);
        let mut claims = Claims::lock(&self.life.state, self.place()).await?;
        if !claims.has_own(model) {
            return Ok(false);
        }
        let start = Instant::now();
        let mut was_any = false;
        loop {
            let all = models::list(server).await?;
            let there = all.iter().flat_map(|it| &it.loaded);
            let own: Vec<&Loaded> = there
                .filter(|it| claims.is_own(model, &it.id, it.context))
                .collect();
            let is_waiting = own.is_empty() && !was_any && claims.is_open(model);
            if own.is_empty() && !(is_waiting && start.elapsed() < SHOWS_WITHIN) {
                break;
            }
            for it in own {
                was_any = true;
                // One that is still being loaded may not go yet.
                let unloaded = load::unload(server, model, &it.id, self.life.lms.as_deref()).await;
                if let Err(error) = unloaded
                    && (error.is_unreachable() || matches!(error, Error::Refused { .. }))
                {
                    return Err(error);
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let all = models::list(server).await?;
        let there: Vec<(String, Option<u32>)> = all
            .iter()
            .flat_map(|it| it.loaded.iter().map(|it| (it.id.clone(), it.context)))
            .collect();
        claims.reconcile(&there)?;
        Ok(was_any)
    }
}

fn there(loaded: &[Loaded], ours: impl Fn(&Loaded) -> (bool, Option<u32>)) -> Vec<There> {
    loaded
        .iter()
        .map(|it| {
            let (is_ours, asked) = ours(it);
            There {
                loaded: it.clone(),
                is_ours,
                asked: asked.filter(|_| is_ours),
            }
        })
        .collect()
}

fn refused(target: &Target, why: String) -> Error {
    Error::Refused {
        engine: target.server.shown(),
        model: target.listed.id.clone(),
        why,
    }
}

async fn is_listed(target: &Target, loaded: &Loaded) -> Result<bool, Error> {
    let all = models::list(&target.server).await?;
    let mut there = all.iter().flat_map(|it| &it.loaded);
    Ok(there.any(|it| it.id == loaded.id))
}

/// LM Studio lists an instance from the moment its loading begins; only its
/// older list says whether it is through. llama.cpp's router says it itself.
async fn is_ready(target: &Target, loaded: &Loaded) -> Result<bool, Error> {
    if target.server.kind == Kind::LlamaRouter {
        return router::is_ready(&target.server, &loaded.id).await;
    }
    if target.server.kind != Kind::LmStudio || !target.listed.has_studio_chat {
        return Ok(true);
    }
    let names = [loaded.id.as_str(), target.listed.id.as_str()];
    match models::studio_state(&target.server, &names).await {
        Ok(state) => Ok(state.is_none_or(|it| it == "loaded")),
        Err(error) if error.is_unreachable() => Err(error),
        // A server error in the middle of a load is none of the model's.
        Err(Error::Server { fault, .. }) if fault.status.is_some_and(|it| it >= 500) => Ok(false),
        Err(_) => Ok(true),
    }
}

/// A context smaller than what the machine can hold is loaded without a word,
/// one that cannot fit is refused with the numbers.
async fn check_memory(target: &Target) -> Result<Vec<String>, Error> {
    let server = &target.server;
    if target.life.force || !server.client.is_loopback() {
        return Ok(Vec::new());
    }
    let context = target.load_context().unwrap_or(USUAL_CONTEXT);
    let model = &target.listed.id;
    let here = Memory::here();
    let declared = target.listed.declared.unwrap_or(context);
    if server.kind == Kind::LmStudio
        && let Some(lms) = &target.life.lms
        && let Some(need) = lms::estimate(lms, server.client.base(), model, context).await
        && need > here.total
    {
        // A second estimate tells what a token takes, and so what would fit.
        let small = (context / 4).max(1);
        let less = lms::estimate(lms, server.client.base(), model, small).await;
        let largest = less.and_then(|less| {
            let of_two = Need::of_two((small, less), (context, need))?;
            of_two.largest(here.total, declared.min(context))
        });
        return Err(Error::Memory {
            model: model.clone(),
            context,
            need,
            have: here.total,
            largest,
        });
    }
    let facts = target.facts();
    let Some(weights) = target.listed.size_bytes.or(facts.size_bytes) else {
        return Ok(Vec::new());
    };
    let need = Need {
        weights,
        per_token: facts.context_bytes_per_token,
    };
    need.check(model, context, declared, here.total)?;
    let bytes = need.bytes(context);
    Ok((bytes > here.available)
        .then(|| {
            format!(
                "`{model}` with {context} tokens of context takes about {}, and {} of memory are \
                 free here; video memory is not counted",
                gigabytes(bytes),
                gigabytes(here.available)
            )
        })
        .into_iter()
        .collect())
}

/// A context smaller than somebody thinks is the commonest reason for answers
/// that forget half of the text.
fn of_context(has: Option<u32>, declared: Option<u32>, asked: Option<u32>) -> Option<String> {
    match (has, declared, asked) {
        (Some(has), _, Some(asked)) if has < asked => Some(format!(
            "a context of {asked} tokens was asked for, and the model is loaded with {has}"
        )),
        (Some(has), Some(declared), None) if has < declared => Some(format!(
            "the model is loaded with {has} of its {declared} tokens of context"
        )),
        (None, _, Some(asked)) => Some(format!(
            "a context of {asked} tokens was asked for, and the server does not say what it has"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_smaller_than_thought_is_said() {
        for (has, declared, asked, said) in [
            (Some(4096), Some(131_072), None, true),
            (Some(4096), Some(4096), None, false),
            (Some(4096), Some(131_072), Some(8192), true),
            (Some(8192), Some(131_072), Some(8192), false),
            (None, None, Some(8192), true),
            (None, Some(8192), None, false),
        ] {
            let warning = of_context(has, declared, asked);
            assert_eq!(warning.is_some(), said, "{has:?} {declared:?} {asked:?}");
        }
    }
}
