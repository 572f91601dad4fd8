//! Imports the registry of the Python program lmstrix, `lmstrix.json`, so that its
//! context tests, which take days, need not be repeated.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::context_test::{TestLevel, TestedContext};
use super::record::ModelRecord;
use super::speeds::Samples;

/// The file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not JSON or has another structure.
    #[error("not a registry of lmstrix: {0}")]
    Shape(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct LmstrixRegistry {
    llms: Map<String, Value>,
}

/// A record of a model. Each field may have any type, so that one unexpected field
/// does not lose the others.
struct LmstrixRecord<'a>(&'a Map<String, Value>);

impl LmstrixRecord<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let text = self.0.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64().filter(|number| *number > 0)
    }

    fn tokens(&self, name: &str) -> Option<u32> {
        u32::try_from(self.number(name)?).ok()
    }

    fn samples(&self, name: &str) -> Samples {
        let mut samples = Samples::default();
        if let Some(value) = self.0.get(name).and_then(Value::as_f64) {
            samples.add(value);
        }
        samples
    }

    fn is(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool) == Some(true)
    }
}

/// Returns the models of the file with their names, in the order of the file.
///
/// # Errors
/// Returns an error if `text` is not a registry of lmstrix.
pub fn import_lmstrix(text: &str) -> Result<Vec<(String, ModelRecord)>, ImportError> {
    let registry: LmstrixRegistry = serde_json::from_str(text)?;
    let mut models: Vec<(String, ModelRecord)> = Vec::new();
    for (key, value) in &registry.llms {
        let Some(fields) = value.as_object() else {
            continue;
        };
        let (id, model) = convert_record(key, &LmstrixRecord(fields));
        // lmstrix uses the first of two records with the same name.
        if models.iter().all(|(known_id, _)| *known_id != id) {
            models.push((id, model));
        }
    }
    Ok(models)
}

fn convert_record(key: &str, fields: &LmstrixRecord<'_>) -> (String, ModelRecord) {
    let declared = fields.tokens("ctx_in").or(fields.tokens("context_limit"));
    // lmstrix recorded tests with more than the declared context.
    let within = |context: u32| declared.map_or(context, |declared| context.min(declared));
    let mut model = ModelRecord {
        size_bytes: fields.number("size_bytes"),
        declared_context: declared,
        path: fields.text("path").or_else(|| Some(key.to_owned())),
        vision: fields.is("has_vision"),
        tools: fields.is("has_tools"),
        tested: fields
            .tokens("tested_max_context")
            .map(|context| TestedContext {
                context: within(context),
                level: None,
                at: fields
                    .text("context_test_date")
                    .and_then(|date| parse_timestamp(&date)),
                complete: fields.text("context_test_status").as_deref() == Some("completed"),
            }),
        ..ModelRecord::default()
    };
    model.speeds.first_token_s = fields.samples("ttft_seconds");
    model.speeds.decode = fields.samples("tps");
    if let Some(context) = fields.tokens("last_known_bad_context") {
        let trial = model.trials.entry(TestLevel::Loads).or_default();
        trial.smallest_failed = Some(context);
        trial.failure = Some("failed in lmstrix".to_owned());
    }
    if fields.is("failed") {
        model.failures = 1;
        model.last_failure = fields.text("error_msg");
    }
    for name in ["description", "keywords"] {
        if let Some(value) = fields.0.get(name).filter(|value| !value.is_null()) {
            model.extra.insert(name.to_owned(), value.clone());
        }
    }
    let id = fields.text("id").unwrap_or_else(|| key.to_owned());
    (id, model)
}

/// Parses a date of lmstrix. Python writes local times without a time zone; they are
/// read as UTC, since an error of half a day does not matter here.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_speeds_and_unusual_records_are_imported() {
        let text = r#"{"path": "/lms", "llms": {
          "pub/repo/q.gguf": {"id": "qwen3-4b", "path": "pub/repo/q.gguf", "size_bytes": 2497280256,
            "ctx_in": 32768, "ctx_out": 4096, "has_tools": true, "has_vision": false,
            "tested_max_context": 31744, "context_test_status": "completed",
            "context_test_date": "2025-07-30T12:34:56.789012", "ttft_seconds": 0.5, "tps": 42.5,
            "last_known_bad_context": 40000, "keywords": ["chat"]},
          "b": {"id": "b", "ctx_in": 4096, "tested_max_context": 31744, "size_bytes": null, "failed": true,
            "error_msg": "boom", "context_test_date": "yesterday"},
          "again": {"id": "b", "ctx_in": 1}, "odd": 7}}"#;
        let models = import_lmstrix(text).unwrap();
        assert_eq!(models.len(), 2);
        let (id, first) = &models[0];
        assert_eq!(id, "qwen3-4b");
        let tested = first.tested.as_ref().unwrap();
        assert_eq!(
            (tested.context, tested.level, tested.complete),
            (31744, None, true)
        );
        assert_eq!(
            tested.at.unwrap().to_string(),
            "2025-07-30T12:34:56.789012Z"
        );
        assert_eq!(first.speeds.decode.median(), Some(42.5));
        assert_eq!(first.trials[&TestLevel::Loads].smallest_failed, Some(40000));
        assert!(first.tools && !first.vision);
        let second = &models[1].1;
        assert_eq!(second.tested.as_ref().unwrap().context, 4096);
        assert_eq!(
            (second.failures, second.last_failure.as_deref()),
            (1, Some("boom"))
        );
        for wrong in ["", "[]", r#"{"models":{}}"#] {
            assert!(import_lmstrix(wrong).is_err(), "{wrong}");
        }
    }
}
