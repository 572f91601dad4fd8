//! Whether an instance is used, loaded or loaded anew. Pure.

use super::models::Loaded;

/// An instance as far as the decision is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    pub(super) loaded: Loaded,
    /// Whether this program loaded it.
    pub(super) is_ours: bool,
    /// The context that this program asked for then.
    pub(super) asked: Option<u32>,
}

/// How a server loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each load adds an instance (LM Studio).
    Stacks,
    /// A load with another context replaces the instance (Ollama).
    Replaces,
    /// The context is the server's own affair (llama.cpp's router, LM Studio
    /// before 0.4.0).
    Given,
    /// It was started with its model (llama-server, vLLM).
    Fixed,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Want<'a> {
    /// At least so much context; `None` takes what is there.
    pub(super) context: Option<u32>,
    /// Exactly so much, and nothing that is larger.
    pub(super) exact: bool,
    /// Exactly this instance.
    pub(super) instance: Option<&'a str>,
    /// Load it anew, whatever is there.
    pub(super) reload: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask this one.
    Reuse(Loaded),
    /// Load one more, or the first.
    Load,
    /// Unload these, then load.
    Reload(Vec<String>),
    /// It cannot be done; why.
    Refuse(String),
}

/// What is done about a model of which `there` is loaded.
///
/// Only `reload`, which somebody typed, unloads what somebody else loaded.
pub(super) fn decide(want: Want<'_>, there: &[There], way: Way) -> Decision {
    if want.reload {
        return match way {
            Way::Fixed => Decision::Refuse(
                "the server was started with its model and cannot load it anew".to_owned(),
            ),
            _ if there.is_empty() => Decision::Load,
            _ => Decision::Reload(ids(there.iter())),
        };
    }
    if matches!(way, Way::Fixed | Way::Given) {
        let named = there
            .iter()
            .find(|it| Some(it.loaded.id.as_str()) == want.instance);
        return match (named.or(there.first()), way) {
            (Some(it), _) => Decision::Reuse(it.loaded.clone()),
            (None, _) => Decision::Load,
        };
    }
    // What does not say its context may have it; the user is told.
    let suits = |it: &&There| match (want.context, it.loaded.context) {
        // One that was asked for exactly that, and got something else, would
        // get it again.
        (Some(wanted), Some(has)) if want.exact => has == wanted || it.asked == Some(wanted),
        // A server that gave less than it was asked for would do so again.
        (Some(want), Some(has)) => has >= want || it.asked.is_some_and(|asked| asked >= want),
        _ => true,
    };
    if let Some(name) = want.instance
        && let Some(named) = there.iter().find(|it| it.loaded.id == name)
    {
        return if suits(&named) {
            Decision::Reuse(named.loaded.clone())
        } else if named.is_ours || way == Way::Replaces {
            Decision::Reload(ids(std::iter::once(named).filter(|_| way == Way::Stacks)))
        } else {
            Decision::Refuse(format!(
                "the instance `{name}` has {} tokens of context, and this program did not load it",
                named.loaded.context.unwrap_or(0)
            ))
        };
    }
    // Of several the smallest that does: it is the fastest. Without a wish the
    // first, which the server's own clients get, too.
    let suited = there.iter().filter(suits);
    let best = match want.context {
        Some(_) => suited.min_by_key(|it| it.loaded.context),
        None => suited.into_iter().next(),
    };
    if let Some(best) = best {
        return Decision::Reuse(best.loaded.clone());
    }
    let ours = ids(there.iter().filter(|it| it.is_ours));
    match way {
        Way::Stacks if !ours.is_empty() => Decision::Reload(ours),
        _ => Decision::Load,
    }
}

fn ids<'a>(of: impl Iterator<Item = &'a There>) -> Vec<String> {
    of.map(|it| it.loaded.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        use Way::{Fixed, Given, Replaces, Stacks};
        let one = |id: &str, context: u32, is_ours: bool| There {
            loaded: Loaded {
                id: id.to_owned(),
                context: (context > 0).then_some(context),
            },
            is_ours,
            asked: None,
        };
        let any = Want::default();
        let tokens = |context: u32| Want {
            context: Some(context),
            ..any
        };
        let exactly = |context: u32| Want {
            exact: true,
            ..tokens(context)
        };
        let named = |instance, context| Want {
            instance: Some(instance),
            context,
            ..any
        };
        let again = Want {
            reload: true,
            ..any
        };
        let none: &[There] = &[];
        let theirs: &[There] = &[one("m", 4096, false)];
        let ours: &[There] = &[one("m", 4096, true)];
        let both: &[There] = &[one("m", 16_384, false), one("m:2", 8192, true)];
        let silent: &[There] = &[one("m", 0, false)];
        let cut: &[There] = &[There {
            asked: Some(8192),
            ..one("m", 4096, true)
        }];
        for (number, (want, there, way, expected)) in [
            (tokens(8192), cut, Stacks, "m"),
            (tokens(8193), cut, Stacks, "reload m"),
            (exactly(8192), cut, Stacks, "m"),
            (exactly(4000), cut, Stacks, "reload m"),
            (any, none, Stacks, "load"),
            (any, theirs, Stacks, "m"),
            (any, both, Stacks, "m"),
            (tokens(4096), theirs, Stacks, "m"),
            (tokens(4000), theirs, Stacks, "m"),
            (tokens(4097), theirs, Stacks, "load"),
            (tokens(4097), ours, Stacks, "reload m"),
            (tokens(8000), both, Stacks, "m:2"),
            (tokens(9000), both, Stacks, "m"),
            (tokens(20_000), both, Stacks, "reload m:2"),
            (tokens(20_000), silent, Stacks, "m"),
            (exactly(4000), ours, Stacks, "reload m"),
            (exactly(4000), theirs, Stacks, "load"),
            (exactly(8192), both, Stacks, "m:2"),
            (named("m:2", None), both, Stacks, "m:2"),
            (named("m:2", Some(9000)), both, Stacks, "reload m:2"),
            (named("m", Some(20_000)), both, Stacks, "refuse"),
            (named("m:3", None), both, Stacks, "m"),
            (again, none, Stacks, "load"),
            (again, both, Stacks, "reload m m:2"),
            (any, theirs, Replaces, "m"),
            (tokens(2048), theirs, Replaces, "m"),
            (tokens(8192), theirs, Replaces, "load"),
            (tokens(8192), ours, Replaces, "load"),
            (exactly(2048), ours, Replaces, "load"),
            (named("m", Some(8192)), ours, Replaces, "reload "),
            (again, theirs, Replaces, "reload m"),
            (any, none, Given, "load"),
            (tokens(8192), theirs, Given, "m"),
            (again, theirs, Given, "reload m"),
            (any, none, Fixed, "load"),
            (tokens(8192), theirs, Fixed, "m"),
            (again, theirs, Fixed, "refuse"),
            (again, none, Fixed, "refuse"),
        ]
        .into_iter()
        .enumerate()
        {
            let said = match decide(want, there, way) {
                Decision::Reuse(it) => it.id,
                Decision::Load => "load".to_owned(),
                Decision::Reload(ids) => format!("reload {}", ids.join(" ")),
                Decision::Refuse(_) => "refuse".to_owned(),
            };
            assert_eq!(said, expected, "case {number}: {want:?} {there:?} {way:?}");
        }
    }
}
