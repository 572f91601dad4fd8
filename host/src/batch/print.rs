//! A plan as a TOML file's text, which reads back as the same plan.

use std::path::{Path, PathBuf};

use super::file::SCHEMA;
use super::plan::{Ask, InputEntry, Plan, Post, Results, Values, Wish};
use crate::inference::{Layer, MaxTokens};

/// The plan as a file's text.
///
/// # Errors
/// A path is not UTF-8, which TOML cannot hold.
pub fn print(plan: &Plan) -> Result<String, String> {
    let Plan {
        out,
        engine,
        models,
        usual,
        context,
        settings,
        jobs,
        name,
        results,
        prompts,
        inputs,
        overrides,
    } = plan;
    let mut out_text = Writer::default();
    out_text.put("schema", SCHEMA.into());
    out_text.path("out", out.as_deref())?;
    out_text.text("engine", engine.as_deref());
    out_text.texts("models", models);
    out_text.context(*context);
    out_text.count("jobs", *jobs);
    out_text.text("name", name.as_deref());
    out_text.results(*results);
    out_text.settings(settings);
    out_text.ask(usual)?;
    for it in prompts {
        out_text.table("prompt");
        out_text.text("name", Some(&it.name));
        out_text.text("label", it.label.as_deref());
        out_text.texts("models", &it.models);
        out_text.settings(&it.settings);
        out_text.ask(&it.ask)?;
    }
    for it in inputs {
        out_text.table("input");
        match it {
            InputEntry::Files(path) => out_text.path("file", Some(path))?,
            InputEntry::Any(path) => out_text.path("rows", Some(path))?,
            InputEntry::Text { name, text } => {
                out_text.text("name", Some(name));
                out_text.text("text", Some(text));
            }
        }
    }
    for it in overrides {
        out_text.table("model");
        out_text.text("match", Some(&it.pattern));
        out_text.context(it.context);
        out_text.count("jobs", it.jobs);
        out_text.settings(&it.settings);
    }
    Ok(out_text.0)
}

/// Writes keys in a readable order, which a map would not keep.
#[derive(Default)]
struct Writer(String);

impl Writer {
    fn put(&mut self, key: &str, value: toml::Value) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn table(&mut self, name: &str) {
        self.0.push_str(&format!("\n[[{name}]]\n"));
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(key, text.into());
        }
    }

    fn path(&mut self, key: &str, path: Option<&Path>) -> Result<(), String> {
        self.text(key, path.map(utf8).transpose()?);
        Ok(())
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.put(key, texts.to_vec().into());
        }
    }

    fn count(&mut self, key: &str, count: Option<usize>) {
        if let Some(count) = count.and_then(|it| i64::try_from(it).ok()) {
            self.put(key, count.into());
        }
    }

    fn context(&mut self, context: Option<Wish>) {
        match context {
            None => {}
            Some(Wish::Tokens(tokens)) => self.put("context", i64::from(tokens).into()),
            Some(other) => self.put("context", other.to_string().into()),
        }
    }

    fn results(&mut self, results: Results) {
        let Results {
            errors_inline,
            keep_raw,
            keep_reasoning,
            strict,
            tags_stay,
        } = results;
        self.text("errors", errors_inline.then_some("inline"));
        self.text("reasoning_tags", tags_stay.then_some("none"));
        for (key, is_set) in [
            ("keep_raw", keep_raw),
            ("keep_reasoning", keep_reasoning),
            ("strict", strict),
        ] {
            if is_set {
                self.put(key, true.into());
            }
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), String> {
        let Ask {
            files,
            packs,
            pack_dirs,
            post,
            system,
            raw,
            params,
        } = ask;
        let paths = |paths: &[PathBuf]| {
            let texts = paths.iter().map(|it| utf8(it).map(str::to_owned));
            texts.collect::<Result<Vec<_>, _>>()
        };
        self.texts("prompts", &paths(files)?);
        self.texts("packs", packs);
        self.texts("pack_dirs", &paths(pack_dirs)?);
        if let Some(post) = post {
            let list: Vec<toml::Value> = post.iter().map(processor).collect();
            self.put("post", list.into());
        }
        self.text("system", system.as_deref());
        if let Some(raw) = raw {
            self.put("raw", (*raw).into());
        }
        if !params.is_empty() {
            // By hand, since the order of parameters counts.
            let items = params.iter().map(|(name, values)| {
                let value: toml::Value = match values {
                    Values::One(one) => one.clone().into(),
                    Values::Axis(all) => all.clone().into(),
                };
                format!("{} = {value}", key(name))
            });
            let items: Vec<String> = items.collect();
            self.0
                .push_str(&format!("params = {{ {} }}\n", items.join(", ")));
        }
        Ok(())
    }

    fn settings(&mut self, layer: &Layer) {
        // What a flag cannot give (`other`) no plan holds.
        let Layer {
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
            json_schema,
            reasoning,
            other: _,
        } = layer;
        let numbers = [
            ("temperature", temperature),
            ("top_p", top_p),
            ("min_p", min_p),
            ("repeat_penalty", repeat_penalty),
            ("presence_penalty", presence_penalty),
            ("frequency_penalty", frequency_penalty),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                self.put(key, (*number).into());
            }
        }
        if let Some(top_k) = top_k {
            self.put("top_k", i64::from(*top_k).into());
        }
        if let Some(seed) = seed {
            // By hand: it may be larger than TOML's own writer takes.
            self.0.push_str(&format!("seed = {seed}\n"));
        }
        match max_tokens {
            None => {}
            Some(MaxTokens::Unlimited) => self.put("max_tokens", (-1).into()),
            Some(MaxTokens::Tokens(tokens)) => self.put("max_tokens", i64::from(*tokens).into()),
            Some(MaxTokens::Percent(percent)) => {
                self.put("max_tokens", format!("{percent}%").into());
            }
        }
        if let Some(stop) = stop {
            self.put("stop", stop.clone().into());
        }
        self.text("json_schema", json_schema.as_deref());
        self.text("reasoning", reasoning.as_deref());
    }
}

fn processor(post: &Post) -> toml::Value {
    match post {
        Post::Typed(text) => text.clone().into(),
        Post::Named(name, options) => {
            let mut table = toml::Table::new();
            table.insert("name".to_owned(), name.clone().into());
            let options: toml::Table = options
                .iter()
                .map(|(key, value)| (key.clone(), value.clone().into()))
                .collect();
            table.insert("options".to_owned(), options.into());
            table.into()
        }
    }
}

/// A key as TOML writes it.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '_' || it == '-');
    if is_bare {
        name.to_owned()
    } else {
        toml::Value::from(name).to_string()
    }
}

fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8, which a plan cannot hold", path.display()))
}
