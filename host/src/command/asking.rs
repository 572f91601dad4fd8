//! What `infer` and `render` share: from what was typed, written down and set
//! in the environment to what is asked of the packs.

use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::args::{Asked, Common, Sampling};
use crate::config::Config;
use crate::environment::Env;
use crate::error::Failure;
use crate::inference::{Layer, MaxTokens, Origin};
use crate::pack::{Cache, Compiler, Folders, ModelFacts, Notice, Packs, ProcessorRef, TextFile};
use crate::pipeline::{Ask, Prepared, Shelf, on_pack_thread, prepare};
use crate::sink::Messages;

/// The prompts of this program, for when nobody names a file.
const STOCK: &str = include_str!(concat!(env!("OUT_DIR"), "/stock.toml"));
/// Their file's name in messages.
const STOCK_NAME: &str = "stock.toml";

/// Reads the config file that holds for this run.
pub(super) fn config(common: &Common, env: &Env) -> Result<Config, Failure> {
    let path = common.config.as_ref().unwrap_or(&env.paths.config);
    tracing::info!(?path, exists = path.exists(), "the config file");
    tracing::info!(paths = ?env.paths, "folders");
    match &common.config {
        Some(path) => Ok(Config::load(path, true)?),
        None => Ok(Config::load(&env.paths.config, false)?),
    }
}

/// The sandbox, and the folders that it looks into.
pub(super) fn shelf(
    asked: &Asked,
    env: &Env,
    config: &Config,
    messages: Messages,
) -> Result<Shelf, Failure> {
    let packs = Packs::new(
        config.limits,
        Cache::new(env.paths.cache.join("packs")),
        Compiler::Child(env.program.clone()),
        move |notice| match notice {
            Notice::Compiling { name, bytes } => {
                let size = crate::pack::Bytes(bytes);
                messages.status(&format!("compiling pack {name} ({size}), once"));
            }
            Notice::NotCached { folder, reason } => messages.warning(&format!(
                "compiled packs cannot be kept in {}, so each run compiles them again: {reason}",
                folder.display()
            )),
        },
    )?;
    for folder in asked.pack_dir.iter().filter(|it| !it.is_dir()) {
        messages.warning(&format!("--pack-dir {} is not a folder", folder.display()));
    }
    let mut folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    folders.extend(asked.pack_dir.iter().cloned());
    Ok(Shelf::new(packs, Folders(folders)))
}

/// What the packs are asked.
pub(super) fn ask(asked: &Asked, env: &Env, config: &Config) -> Result<Ask, Failure> {
    let Asked {
        prompt,
        prompts,
        pack,
        pack_dir: _,
        post,
        no_post,
        text,
        text_file,
        param,
        dict,
        system,
        raw,
    } = asked;
    let from_env: Vec<PathBuf> = env
        .own
        .get("PROMPTS")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let paths = [prompts, &from_env, &config.prompts]
        .into_iter()
        .find(|it| !it.is_empty());
    let files = paths
        .into_iter()
        .flatten()
        .map(|path| text_file_of(path))
        .collect::<Result<_, _>>()?;
    let post = if *no_post {
        Some(Vec::new())
    } else if post.is_empty() {
        None
    } else {
        Some(
            post.iter()
                .map(|it| processor(it))
                .collect::<Result<_, _>>()?,
        )
    };
    Ok(Ask {
        typed: prompt.clone(),
        packs: pack.clone(),
        files,
        stock: TextFile {
            name: STOCK_NAME.to_owned(),
            shown: STOCK_NAME.to_owned(),
            text: STOCK.to_owned(),
        },
        params: params(dict, param, text.as_deref(), text_file.as_deref())?,
        post,
        system: system.clone(),
        raw: *raw,
    })
}

/// Reads a whole file that must be UTF-8.
fn text_file_of(path: &Path) -> Result<TextFile, Failure> {
    let file = fs::File::open(path).map_err(|e| Failure::usage(e.to_string()))?;
    let bytes = read_limited(file, &path.display().to_string())?;
    Ok(TextFile {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        shown: path.display().to_string(),
        text: utf8(bytes, &path.display().to_string())?,
    })
}

/// The most text that is read from one file or from stdin: more than any model
/// takes, and a device such as /dev/zero never ends.
const TEXT_BYTES_MAX: u64 = 16 << 20;

fn read_limited(from: impl Read, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::usage(format!("cannot read {what}: {e}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{what} has more than 16 MiB, which no prompt can have"
        )));
    }
    Ok(bytes)
}

/// A byte order mark at the start goes: it is no part of the text.
///
/// # Errors
/// The bytes are not UTF-8; the message says where the first wrong one is.
fn utf8(bytes: Vec<u8>, what: &str) -> Result<String, Failure> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        Failure::usage(format!(
            "{what} is not UTF-8: the byte at offset {offset} is wrong"
        ))
        .hint("iconv -f ENCODING -t UTF-8 converts it")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// All of stdin, as text.
fn stdin_text() -> Result<String, Failure> {
    let bytes = read_limited(std::io::stdin().lock(), "stdin")?;
    utf8(bytes, "stdin")
}

/// Stdin for a prompt that lacks its text: only when a pipe or a file is there,
/// and only when there is something in it.
fn stdin_if(has_text: bool) -> Result<Option<String>, String> {
    if !has_text {
        return Ok(None);
    }
    let text = stdin_text().map_err(|failure| {
        std::iter::once(failure.message)
            .chain(failure.hints)
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(Some(text))
}

/// The parameters in their order. `text` is put last, as the Python program
/// did. A later source of the same name replaces an earlier one; the same name
/// twice by `-p` is a mistake.
fn params(
    dict: &[String],
    param: &[String],
    text: Option<&str>,
    text_file: Option<&Path>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut params: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| {
        params.retain(|(known, _)| known != name);
        params.push((name.to_owned(), value));
    };
    for item in dict
        .iter()
        .flat_map(|it| it.split(','))
        .filter(|it| !it.trim().is_empty())
    {
        let (name, value) = item.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--dict takes k=v,k2=v2, and `{item}` has no `=`"))
                .hint("-p KEY=VALUE takes values with commas")
        })?;
        put(name.trim(), value.trim().to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| {
                Failure::usage(format!("-p takes KEY=VALUE, and `{item}` is not that"))
            })?;
        if seen.contains(&name) {
            return Err(Failure::usage(format!(
                "the parameter `{name}` is given twice"
            )));
        }
        seen.push(name);
        put(name, at_file(value)?);
    }
    let is_text_given = text.is_some() || text_file.is_some();
    if is_text_given && seen.contains(&"text") {
        return Err(Failure::usage(
            "the parameter `text` is given twice: by -p, and by --text",
        ));
    }
    match (text, text_file) {
        (Some(text), _) => put("text", text.to_owned()),
        (None, Some(path)) if path == Path::new("-") => put("text", stdin_text()?),
        (None, Some(path)) => put("text", text_file_of(path)?.text),
        (None, None) => {}
    }
    Ok(params)
}

/// `@FILE` is the file's text, `@@…` a literal `@…`.
fn at_file(value: &str) -> Result<String, Failure> {
    match value.strip_prefix('@') {
        None => Ok(value.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some(path) => match text_file_of(Path::new(path)) {
            Ok(file) => Ok(file.text),
            Err(failure) => {
                Err(failure.hint("a value that begins with a literal @ begins with @@"))
            }
        },
    }
}

/// Reads `NAME[:KEY=VALUE,…]`, where `\,` `\:` `\=` and `\\` are literal.
fn processor(typed: &str) -> Result<ProcessorRef, Failure> {
    let mut parts = split(typed, ':', 2).into_iter();
    let name = unescape(&parts.next().unwrap_or_default());
    if name.is_empty() {
        return Err(Failure::usage(format!(
            "--post takes NAME[:KEY=VALUE,…], and `{typed}` has no name"
        )));
    }
    let mut options = Vec::new();
    for option in parts
        .next()
        .map(|it| split(&it, ',', usize::MAX))
        .unwrap_or_default()
    {
        if option.is_empty() {
            continue;
        }
        match &split(&option, '=', 2)[..] {
            [key, value] => options.push((unescape(key), unescape(value))),
            _ => {
                return Err(Failure::usage(format!(
                    "--post takes NAME[:KEY=VALUE,…], and `{option}` in `{typed}` has no `=`"
                ))
                .hint("a literal comma, colon or equals sign is \\, \\: or \\="));
            }
        }
    }
    Ok(ProcessorRef { name, options })
}

/// Splits at `separator` where no backslash stands before it, into at most
/// `most` parts. Escapes stay as they are.
fn split(text: &str, separator: char, most: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == separator && !escaped && parts.len() < most {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            // Other backslashes are the value's own: `\n`, `C:\x`.
            Some(&next) if c == '\\' && ",:=\\".contains(next) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// Variables that mean something, without their prefix.
const VARIABLES: [&str; 17] = [
    "CONTEXT",
    "ENGINE",
    "FREQUENCY_PENALTY",
    "HOME",
    "JSON_SCHEMA",
    "MAX_TOKENS",
    "MIN_P",
    "MODEL",
    "PRESENCE_PENALTY",
    "PROMPTS",
    "REASONING",
    "REPEAT_PENALTY",
    "SEED",
    "STOP",
    "TEMPERATURE",
    "TOP_K",
    "TOP_P",
];

/// Says which of our variables mean nothing; a misspelt one would otherwise be
/// lost without a word.
pub(super) fn warn_of_unknown_variables(env: &Env, messages: Messages) {
    for name in env
        .own
        .keys()
        .filter(|it| !VARIABLES.contains(&it.as_str()))
    {
        let close = crate::closest::closest(name, VARIABLES);
        let hint = close
            .first()
            .map(|it| format!("; did you mean LMSTRIX_HOST_{it}?"));
        let hint = hint.unwrap_or_default();
        messages.warning(&format!(
            "LMSTRIX_HOST_{name} means nothing to this program{hint}"
        ));
    }
}

/// The schema itself, or the file of `@FILE`.
fn json_schema(given: &str) -> Result<String, Failure> {
    let schema = at_file(given)?;
    match serde_json::from_str::<serde_json::Value>(&schema) {
        Ok(_) => Ok(schema),
        Err(e) => Err(Failure::usage(format!("the JSON schema is not JSON: {e}"))),
    }
}

/// The settings of each source but the prompt and the model's file, the
/// strongest first.
pub(super) fn layers(
    sampling: &Sampling,
    env: &Env,
    config: &Config,
) -> Result<[(Origin, Layer); 3], Failure> {
    let flags = flag_layer(sampling)?;
    let environment = environment_layer(env)?;
    let checked = [(Origin::Flag, flags), (Origin::Environment, environment)];
    for (origin, layer) in &checked {
        layer.check().map_err(|(name, why)| {
            Failure::usage(match origin {
                Origin::Flag => format!("--{} {why}", name.replace('_', "-")),
                _ => format!("LMSTRIX_HOST_{} {why}", name.to_uppercase()),
            })
        })?;
    }
    let [flags, environment] = checked;
    Ok([flags, environment, (Origin::Config, config.layer.clone())])
}

/// Prepares the job on a thread of its own. What was found on the way is said
/// also when it fails: it may be the reason.
pub(super) async fn prepared(
    mut shelf: Shelf,
    ask: Ask,
    model: Option<ModelFacts>,
    has_stdin: bool,
    messages: Messages,
) -> Result<Prepared, Failure> {
    let (prepared, left) = on_pack_thread(move || {
        let prepared = prepare(&mut shelf, &ask, model.as_ref(), &mut || {
            stdin_if(has_stdin)
        });
        (prepared, shelf.warnings)
    })
    .await?;
    for warning in &left {
        messages.warning(warning);
    }
    let prepared = prepared?;
    check(&prepared)?;
    Ok(prepared)
}

/// A prompt's settings must be ones that some engine could honour.
fn check(prepared: &Prepared) -> Result<(), Failure> {
    let checked = prepared.resolved.settings.check();
    checked.map_err(|(name, why)| Failure::usage(format!("the prompt's setting {name} {why}")))
}

fn flag_layer(sampling: &Sampling) -> Result<Layer, Failure> {
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        repeat_penalty,
        presence_penalty,
        frequency_penalty,
        seed,
        max_tokens,
        stop,
        no_stop,
        reasoning,
        json_schema,
    } = sampling;
    let max_tokens = max_tokens.as_deref().map(MaxTokens::parse).transpose();
    let stop = match (no_stop, stop.is_empty()) {
        (true, _) => Some(Vec::new()),
        (false, false) => Some(stop.clone()),
        (false, true) => None,
    };
    let json_schema = json_schema.as_deref().map(self::json_schema).transpose()?;
    Ok(Layer {
        temperature: *temperature,
        top_k: *top_k,
        top_p: *top_p,
        min_p: *min_p,
        repeat_penalty: *repeat_penalty,
        presence_penalty: *presence_penalty,
        frequency_penalty: *frequency_penalty,
        seed: *seed,
        max_tokens: max_tokens.map_err(|why| Failure::usage(format!("--max-tokens: {why}")))?,
        stop,
        json_schema,
        reasoning: reasoning.clone(),
        ..Layer::default()
    })
}

fn environment_layer(env: &Env) -> Result<Layer, Failure> {
    fn number<T: std::str::FromStr>(env: &Env, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = env.own.get(name) else {
            return Ok(None);
        };
        text.trim().parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "LMSTRIX_HOST_{name} is `{text}`, which is not a number it takes"
            ))
        })
    }
    let max_tokens = env
        .own
        .get("MAX_TOKENS")
        .map(|it| MaxTokens::parse(it))
        .transpose();
    Ok(Layer {
        temperature: number(env, "TEMPERATURE")?,
        top_k: number(env, "TOP_K")?,
        top_p: number(env, "TOP_P")?,
        min_p: number(env, "MIN_P")?,
        repeat_penalty: number(env, "REPEAT_PENALTY")?,
        presence_penalty: number(env, "PRESENCE_PENALTY")?,
        frequency_penalty: number(env, "FREQUENCY_PENALTY")?,
        seed: number(env, "SEED")?,
        max_tokens: max_tokens
            .map_err(|why| Failure::usage(format!("LMSTRIX_HOST_MAX_TOKENS: {why}")))?,
        stop: env.own.get("STOP").map(|it| vec![it.clone()]),
        reasoning: env.own.get("REASONING").cloned(),
        json_schema: env
            .own
            .get("JSON_SCHEMA")
            .map(|it| json_schema(it))
            .transpose()?,
        ..Layer::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_with_their_escapes() {
        for (typed, name, options) in [
            ("trim", "trim", vec![]),
            ("shout/count", "shout/count", vec![]),
            (
                "fence:lang=rust,all=true",
                "fence",
                vec![("lang", "rust"), ("all", "true")],
            ),
            (
                "replace:from=a\\,b,to=c\\:d\\=e",
                "replace",
                vec![("from", "a,b"), ("to", "c:d=e")],
            ),
            (
                "replace:from=x=y,to=",
                "replace",
                vec![("from", "x=y"), ("to", "")],
            ),
            ("lines:from=a:b", "lines", vec![("from", "a:b")]),
            (
                "replace:from=\\n,to=\\\\",
                "replace",
                vec![("from", "\\n"), ("to", "\\")],
            ),
        ] {
            let found = processor(typed).unwrap();
            assert_eq!(found.name, name, "{typed}");
            let options: Vec<(String, String)> = options
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            assert_eq!(found.options, options, "{typed}");
        }
        for typed in ["", ":a=b", "fence:lang"] {
            assert!(processor(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn parameters_keep_their_order_and_their_commas() {
        let own = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let found = params(
            &own(&["a=1, b = 2", "text=old"]),
            &own(&["b=x,y=z", "c=@@d"]),
            Some("T"),
            None,
        );
        let found = found.unwrap();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            found,
            [("a", "1"), ("b", "x,y=z"), ("c", "@d"), ("text", "T")]
        );
        for (dict, param, text) in [
            (&["x"][..], &[][..], None),
            (&[], &["x"], None),
            (&[], &["=x"], None),
            (&[], &["x=1", "x=2"], None),
            (&[], &["text=1"], Some("2")),
        ] {
            assert!(
                params(&own(dict), &own(param), text, None).is_err(),
                "{dict:?} {param:?}"
            );
        }
    }
}
