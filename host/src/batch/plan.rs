//! The plan of a batch, as somebody wrote it: which prompts, models and inputs,
//! with which settings. By flags and by a TOML file alike; `file` reads and
//! prints the file, `matrix` makes the jobs of it.

use std::path::{Path, PathBuf};

use crate::inference::Layer;

/// The most jobs at once: each has its own connection.
pub const JOBS_MAX: usize = 256;

/// A batch, before anybody was asked what there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The folder for the results.
    pub out: Option<PathBuf>,
    /// As `--engine`.
    pub engine: Option<String>,
    /// Names of models, patterns, or `all`; empty is the usual model.
    pub models: Vec<String>,
    /// What holds for prompts that say nothing else.
    pub usual: Ask,
    /// How much context models are loaded with.
    pub context: Option<Wish>,
    /// Settings of all jobs.
    pub settings: Layer,
    /// The most jobs at once; `None` is what the server can do.
    pub jobs: Option<usize>,
    /// The template of the results' names.
    pub name: Option<String>,
    /// How results are written.
    pub results: Results,
    /// The prompts.
    pub prompts: Vec<PromptEntry>,
    /// The inputs; without any, each prompt is asked once.
    pub inputs: Vec<InputEntry>,
    /// What holds for some models only, the first match of each value.
    pub overrides: Vec<ModelEntry>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Failures stand in the results' place.
    pub errors_inline: bool,
    /// The models' own words are kept, too.
    pub keep_raw: bool,
    /// So is their thinking.
    pub keep_reasoning: bool,
    /// Lost settings and cut answers are failures.
    pub strict: bool,
    /// A thinking span at the start stays in the text.
    pub tags_stay: bool,
}

/// How a prompt is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// Files with prompts.
    pub files: Vec<PathBuf>,
    /// As `--pack`.
    pub packs: Vec<String>,
    /// As `--pack-dir`.
    pub pack_dirs: Vec<PathBuf>,
    /// As `--post`; an empty list is `--no-post`.
    pub post: Option<Vec<Post>>,
    /// As `--system`.
    pub system: Option<String>,
    /// As `--raw`.
    pub raw: Option<bool>,
    /// Parameters, in their order.
    pub params: Vec<(String, Values)>,
}

/// A processor, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Post {
    /// `fence:lang=rust`
    Typed(String),
    /// A name, and options.
    Named(String, Vec<(String, String)>),
}

/// What a parameter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// One value.
    One(String),
    /// An axis: a job for each.
    Axis(Vec<String>),
}

/// How much context a model is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What its largest job needs.
    Fit,
    /// So many tokens.
    Tokens(u32),
    /// This share of what was tested, else of what it was made for.
    Percent(u8),
}

impl Wish {
    /// Reads `fit`, `8192` or `50%`.
    ///
    /// # Errors
    /// It is none of these; the text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong =
            || format!("context is `{text}`; it takes `fit`, a number from 1, or `1%` to `100%`");
        if text == "fit" {
            return Ok(Self::Fit);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fit => f.write_str("fit"),
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A prompt of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptEntry {
    /// As `infer` takes it: a name, `pack/name`, or the prompt itself.
    pub name: String,
    /// The name in files and tables; else `name`.
    pub label: Option<String>,
    /// What it says itself; the rest is the plan's.
    pub ask: Ask,
    /// Only for these models.
    pub models: Vec<String>,
    /// Settings of its jobs.
    pub settings: Layer,
}

impl PromptEntry {
    /// The name in files and tables.
    #[must_use]
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }

    /// How it is asked, with what the plan says of all prompts.
    #[must_use]
    pub fn asked(&self, usual: &Ask) -> Ask {
        fn or<T: Clone>(own: &[T], usual: &[T]) -> Vec<T> {
            if own.is_empty() { usual } else { own }.to_vec()
        }
        let own = &self.ask;
        let mut params = usual.params.clone();
        for (name, values) in &own.params {
            params.retain(|(known, _)| known != name);
            params.push((name.clone(), values.clone()));
        }
        Ask {
            files: or(&own.files, &usual.files),
            packs: or(&own.packs, &usual.packs),
            pack_dirs: [usual.pack_dirs.clone(), own.pack_dirs.clone()].concat(),
            post: own.post.clone().or_else(|| usual.post.clone()),
            system: own.system.clone().or_else(|| usual.system.clone()),
            raw: own.raw.or(usual.raw),
            params,
        }
    }
}

/// Something that prompts are run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputEntry {
    /// Files by a path or a pattern.
    Files(PathBuf),
    /// Rows of a JSONL, CSV or TSV file, or files by a pattern.
    Any(PathBuf),
    /// A text, and its name.
    Text {
        /// What it is called.
        name: String,
        /// The text.
        text: String,
    },
}

/// What holds for some models only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelEntry {
    /// A name or a pattern.
    pub pattern: String,
    /// How much context they are loaded with.
    pub context: Option<Wish>,
    /// The most jobs at once.
    pub jobs: Option<usize>,
    /// Settings of their jobs.
    pub settings: Layer,
}

/// Whether a name or a pattern means a model: exactly, or, where it holds `*`,
/// `?` or `[`, as a pattern. A pattern without a slash may also match what comes
/// after the publisher's name.
#[must_use]
pub fn means(pattern: &str, id: &str, aliases: &[String]) -> bool {
    let names = || std::iter::once(id).chain(aliases.iter().map(String::as_str));
    if !is_pattern(pattern) {
        return names().any(|it| it == pattern);
    }
    let Ok(glob) = glob::Pattern::new(pattern) else {
        return false;
    };
    names().any(|it| {
        let last = it.rsplit('/').next().unwrap_or(it);
        glob.matches(it) || (!pattern.contains('/') && glob.matches(last))
    })
}

/// A path or a pattern below a folder, whose own name is no pattern.
#[must_use]
pub fn below(folder: &Path, path: &str) -> PathBuf {
    if is_pattern(path) && !Path::new(path).is_absolute() && !folder.join(path).exists() {
        let escaped = glob::Pattern::escape(&folder.to_string_lossy());
        return PathBuf::from(escaped).join(path);
    }
    folder.join(path)
}

/// Whether it may mean several models.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_exactly_and_a_pattern_by_its_marks() {
        let aliases = ["google/gemma-3-4b@q4_k_m".to_owned()];
        for (pattern, expected) in [
            ("google/gemma-3-4b", true),
            ("gemma-3-4b", false),
            ("gemma", false),
            ("google/gemma-3-4b@q4_k_m", true),
            ("gemma*", true),
            ("*q4_k_m", true),
            ("google/*", true),
            ("qwen*", false),
            ("gemma-?-4b", true),
            ("[", false),
        ] {
            assert_eq!(
                means(pattern, "google/gemma-3-4b", &aliases),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_prompt_says_what_it_wants_and_takes_the_rest_from_the_plan() {
        let one = |it: &str| Values::One(it.to_owned());
        let usual = Ask {
            packs: vec!["p".to_owned()],
            system: Some("s".to_owned()),
            params: vec![("a".to_owned(), one("1")), ("b".to_owned(), one("2"))],
            ..Ask::default()
        };
        let entry = PromptEntry {
            ask: Ask {
                post: Some(vec![]),
                params: vec![(
                    "a".to_owned(),
                    Values::Axis(vec!["x".to_owned(), "y".to_owned()]),
                )],
                ..Ask::default()
            },
            ..PromptEntry::default()
        };
        let asked = entry.asked(&usual);
        assert_eq!(asked.packs, ["p"]);
        assert_eq!(
            (asked.post, asked.system.as_deref()),
            (Some(vec![]), Some("s"))
        );
        let names: Vec<&str> = asked.params.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
