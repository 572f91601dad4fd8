//! Which model of which server is meant. Pure, and exact: a part of a name
//! never chooses a model.

use std::sync::Arc;

use super::models::{Listed, Loaded};
use super::{Names, Server};
use crate::engine::Error;
use crate::suggest::closest;

/// Names shown in an error; more would scroll the reason away.
const NAMES_SHOWN: usize = 20;

/// A model that was found.
#[derive(Debug, PartialEq)]
pub(super) struct Picked {
    /// The server's place in the list.
    pub(super) at: usize,
    pub(super) listed: Listed,
    pub(super) loaded: Option<Loaded>,
}

/// The model that was named; else the only one that is loaded; else
/// the config's; else the one used last.
///
/// # Errors
/// No server has that model, or nobody said which one.
pub(super) fn pick(
    lists: &[(Arc<Server>, Vec<Listed>)],
    names: Names<'_>,
) -> Result<Picked, Error> {
    let shown: Vec<String> = lists.iter().map(|(server, _)| server.shown()).collect();
    let plain: Vec<&[Listed]> = lists.iter().map(|(_, listed)| &listed[..]).collect();
    among(&plain, names, &shown.join(", "))
}

fn among(lists: &[&[Listed]], wanted: Names<'_>, engines: &str) -> Result<Picked, Error> {
    let all = || {
        lists
            .iter()
            .enumerate()
            .flat_map(|(at, listed)| listed.iter().map(move |it| (at, it)))
            .filter(|(_, it)| !it.embeds_only)
    };
    if let Some(name) = wanted.model {
        return named(all(), name, engines);
    }
    let mut loaded = all().filter(|(_, it)| !it.loaded.is_empty());
    if let (Some((at, listed)), None) = (loaded.next(), loaded.next()) {
        return Ok(picked(at, listed, None));
    }
    if let Some(name) = wanted.fallback {
        return named(all(), name, engines);
    }
    // It may be gone; then it is no help.
    if let Some(Ok(last)) = wanted.last.map(|name| named(all(), name, engines)) {
        return Ok(last);
    }
    let names = |is_loaded: bool| -> Vec<String> {
        all()
            .filter(|(_, it)| it.loaded.is_empty() != is_loaded)
            .map(|(_, it)| it.id.clone())
            .take(NAMES_SHOWN)
            .collect()
    };
    Err(Error::NoModel {
        engine: engines.to_owned(),
        loaded: names(true),
        others: names(false),
    })
}

fn named<'a>(
    all: impl Iterator<Item = (usize, &'a Listed)> + Clone,
    name: &str,
    engines: &str,
) -> Result<Picked, Error> {
    let is_instance = |it: &Listed| it.loaded.iter().any(|it| it.id == name);
    let is_meant = |it: &Listed| {
        it.id == name || it.aliases.iter().any(|alias| alias == name) || is_instance(it)
    };
    let meant: Vec<(usize, &Listed)> = all.clone().filter(|(_, it)| is_meant(it)).collect();
    // Of servers that have the same model, the one that has it loaded.
    let best = meant
        .iter()
        .find(|(_, it)| !it.loaded.is_empty())
        .or(meant.first());
    if let Some((at, listed)) = best {
        return Ok(picked(*at, listed, Some(name)));
    }
    let known: Vec<&str> = all.map(|(_, it)| it.id.as_str()).collect();
    Err(Error::UnknownServerModel {
        engine: engines.to_owned(),
        name: name.to_owned(),
        close: closest(name, known.iter().copied()),
        known: known
            .into_iter()
            .take(NAMES_SHOWN)
            .map(str::to_owned)
            .collect(),
    })
}

fn picked(at: usize, listed: &Listed, name: Option<&str>) -> Picked {
    let by_name = listed.loaded.iter().find(|it| Some(it.id.as_str()) == name);
    Picked {
        at,
        listed: listed.clone(),
        loaded: by_name.or(listed.loaded.first()).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, loaded: &[&str]) -> Listed {
        let loaded = loaded.iter().map(|id| Loaded {
            id: (*id).to_owned(),
            context: None,
        });
        Listed {
            id: id.to_owned(),
            aliases: vec![format!("{id}@q4")],
            loaded: loaded.collect(),
            ..Listed::default()
        }
    }

    #[test]
    fn a_model_is_named_or_loaded_or_the_configs() {
        let embedding = Listed {
            embeds_only: true,
            ..model("embed", &["embed"])
        };
        let studio = [
            model("qwen3-4b", &[]),
            model("gemma", &["gemma", "gemma:2"]),
            embedding,
        ];
        let ollama = [model("llama", &["llama"]), model("qwen3-4b", &["qwen3-4b"])];
        let one: &[&[Listed]] = &[&studio];
        let both: &[&[Listed]] = &[&studio, &ollama];
        for (lists, name, fallback, last, expected) in [
            (one, Some("qwen3-4b"), None, None, Ok((0, "qwen3-4b", None))),
            (
                one,
                Some("qwen3-4b@q4"),
                None,
                None,
                Ok((0, "qwen3-4b", None)),
            ),
            (
                one,
                Some("gemma:2"),
                None,
                None,
                Ok((0, "gemma", Some("gemma:2"))),
            ),
            (
                one,
                None,
                Some("qwen3-4b"),
                None,
                Ok((0, "gemma", Some("gemma"))),
            ),
            (
                both,
                None,
                Some("gemma"),
                None,
                Ok((0, "gemma", Some("gemma"))),
            ),
            (
                both,
                Some("qwen3-4b"),
                None,
                None,
                Ok((1, "qwen3-4b", Some("qwen3-4b"))),
            ),
            (one, Some("qwen"), None, None, Err("unknown")),
            (one, Some("embed"), None, None, Err("unknown")),
            (both, None, None, None, Err("which")),
            (
                both,
                None,
                None,
                Some("llama"),
                Ok((1, "llama", Some("llama"))),
            ),
            (both, None, None, Some("gone"), Err("which")),
            (&[], None, None, None, Err("which")),
        ] {
            let names = Names {
                model: name,
                fallback,
                last,
            };
            let found = among(lists, names, "here");
            let found = match &found {
                Ok(it) => Ok((
                    it.at,
                    it.listed.id.as_str(),
                    it.loaded.as_ref().map(|it| it.id.as_str()),
                )),
                Err(Error::UnknownServerModel { .. }) => Err("unknown"),
                Err(_) => Err("which"),
            };
            assert_eq!(found, expected, "{name:?} {fallback:?}");
        }
    }
}
