//! Writes plans as TOML that `plan_reader` parses to the same plan.

use std::path::{Path, PathBuf};

use lmstrix_inference::{Scalar, SettingsLayer};

use super::plan::{
    InputEntrySource, ParamValues, Plan, PlanContext, ProcessorEntry, PromptOptions, ResultOptions,
};
use super::plan_reader::SCHEMA;

/// Returns the plan as TOML.
///
/// # Errors
/// Returns a message if a path is not UTF-8, which TOML cannot represent.
pub fn plan_to_toml(plan: &Plan) -> Result<String, String> {
    let Plan {
        out,
        engine,
        models,
        defaults,
        context,
        settings,
        jobs,
        locked,
        pins,
        name,
        results,
        prompts,
        inputs,
        overrides,
    } = plan;
    let mut toml = PlanWriter::default();
    toml.put("schema", SCHEMA.into());
    toml.path("out", out.as_deref())?;
    toml.text("engine", engine.as_deref());
    toml.texts("models", models);
    toml.context(*context);
    toml.count("jobs", *jobs);
    if *locked {
        toml.put("locked", true.into());
    }
    if !pins.is_empty() {
        let pins = pins.iter();
        let pins = pins.map(|(name, digest)| (name.clone(), digest.to_string().into()));
        toml.put("pins", toml::Value::Table(pins.collect()));
    }
    toml.text("name", name.as_deref());
    toml.results(*results);
    toml.settings(settings);
    toml.prompt_options(defaults)?;
    for prompt in prompts {
        toml.table("prompt");
        toml.text("name", Some(&prompt.name));
        toml.text("label", prompt.label.as_deref());
        toml.texts("models", &prompt.models);
        toml.settings(&prompt.settings);
        toml.prompt_options(&prompt.options)?;
    }
    for input in inputs {
        toml.table("input");
        match &input.source {
            InputEntrySource::Files(path) => toml.path("file", Some(path))?,
            InputEntrySource::RowsOrFiles(path) => toml.path("rows", Some(path))?,
            InputEntrySource::Images { name, paths } => {
                toml.text("name", name.as_deref());
                toml.paths("attach", paths)?;
            }
            InputEntrySource::Text { name, text } => {
                toml.text("name", Some(name));
                toml.text("text", Some(text));
            }
        }
        toml.paths("attach", &input.attach)?;
    }
    for model in overrides {
        toml.table("model");
        toml.text("match", Some(&model.pattern));
        toml.context(model.context);
        toml.count("jobs", model.jobs);
        toml.settings(&model.settings);
    }
    Ok(toml.0)
}

/// Writes keys in a readable order, which a [`toml::Table`] would not keep.
#[derive(Default)]
struct PlanWriter(String);

impl PlanWriter {
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

    fn paths(&mut self, key: &str, paths: &[PathBuf]) -> Result<(), String> {
        let texts = paths.iter().map(|path| utf8(path).map(str::to_owned));
        self.texts(key, &texts.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.put(key, texts.to_vec().into());
        }
    }

    fn count(&mut self, key: &str, count: Option<usize>) {
        if let Some(count) = count.and_then(|count| i64::try_from(count).ok()) {
            self.put(key, count.into());
        }
    }

    fn context(&mut self, context: Option<PlanContext>) {
        match context {
            None => {}
            Some(PlanContext::Tokens(tokens)) => self.put("context", i64::from(tokens).into()),
            Some(other) => self.put("context", other.to_string().into()),
        }
    }

    fn results(&mut self, results: ResultOptions) {
        let ResultOptions {
            errors_inline,
            keep_raw,
            keep_reasoning,
            strict,
            keep_reasoning_tags,
        } = results;
        self.text("errors", errors_inline.then_some("inline"));
        self.text("reasoning_tags", keep_reasoning_tags.then_some("none"));
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

    fn prompt_options(&mut self, options: &PromptOptions) -> Result<(), String> {
        let PromptOptions {
            prompt_files,
            pack_files,
            packs,
            pack_dirs,
            processors,
            system,
            raw,
            params,
            attach,
        } = options;
        self.paths("prompts", prompt_files)?;
        self.paths("files", pack_files)?;
        self.texts("packs", packs);
        self.paths("pack_dirs", pack_dirs)?;
        self.paths("attach", attach)?;
        if let Some(processors) = processors {
            let values: Vec<toml::Value> = processors.iter().map(processor_value).collect();
            self.put("post", values.into());
        }
        self.text("system", system.as_deref());
        if let Some(raw) = raw {
            self.put("raw", (*raw).into());
        }
        if !params.is_empty() {
            // Written by hand, since the order of parameters matters.
            let items = params.iter().map(|(name, values)| {
                let value: toml::Value = match values {
                    ParamValues::One(one) => one.clone().into(),
                    ParamValues::Axis(all) => all.clone().into(),
                };
                format!("{} = {value}", key(name))
            });
            let items: Vec<String> = items.collect();
            self.0
                .push_str(&format!("params = {{ {} }}\n", items.join(", ")));
        }
        Ok(())
    }

    /// Writes the settings of the table; plans have no keys for others, just as there are
    /// no flags for them.
    fn settings(&mut self, layer: &SettingsLayer) {
        for (name, value) in layer.values() {
            match value {
                // Written by hand: a seed may exceed the `i64` of `toml::Value`.
                Scalar::Integer(number) => self.0.push_str(&format!("{name} = {number}\n")),
                Scalar::Float(number) => self.put(name, number.into()),
                Scalar::Text(text) => self.put(name, text.into()),
                Scalar::Texts(texts) => self.put(name, texts.into()),
                Scalar::Boolean(value) => self.put(name, value.into()),
            }
        }
    }
}

fn processor_value(processor: &ProcessorEntry) -> toml::Value {
    match processor {
        ProcessorEntry::Text(text) => text.clone().into(),
        ProcessorEntry::Named(name, options) => {
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

/// Returns a key in TOML notation.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare {
        name.to_owned()
    } else {
        toml::Value::from(name).to_string()
    }
}

fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| {
        format!(
            "cannot write the plan: path `{}` is not UTF-8",
            path.display()
        )
    })
}
