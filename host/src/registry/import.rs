//! Reads the registry of the Python program, `lmstrix.json`: what it tested
//! took people days.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::record::{Level, ModelRecord, Samples, Tested};

/// The file is none of that program's.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no JSON, or of another shape.
    #[error("it is not the registry of lmstrix: {0}")]
    Shape(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Old {
    llms: Map<String, Value>,
}

/// One of its records. Each field may be of any shape: a record with one odd
/// field is still worth the others.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let text = self.0.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64().filter(|it| *it > 0)
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

/// The models of the file by name, in its order.
///
/// # Errors
/// The text is no such registry.
pub fn import(text: &str) -> Result<Vec<(String, ModelRecord)>, ImportError> {
    let old: Old = serde_json::from_str(text)?;
    let mut models: Vec<(String, ModelRecord)> = Vec::new();
    for (key, value) in &old.llms {
        let Some(fields) = value.as_object() else {
            continue;
        };
        let (id, model) = model(key, &Fields(fields));
        // Of two records with one name that program took the first.
        if models.iter().all(|(it, _)| *it != id) {
            models.push((id, model));
        }
    }
    Ok(models)
}

fn model(key: &str, fields: &Fields<'_>) -> (String, ModelRecord) {
    let declared = fields.tokens("ctx_in").or(fields.tokens("context_limit"));
    // It wrote tests of more than a model was made for.
    let within = |it: u32| declared.map_or(it, |declared| it.min(declared));
    let mut model = ModelRecord {
        size_bytes: fields.number("size_bytes"),
        declared_context: declared,
        path: fields.text("path").or_else(|| Some(key.to_owned())),
        vision: fields.is("has_vision"),
        tools: fields.is("has_tools"),
        tested: fields.tokens("tested_max_context").map(|context| Tested {
            context: within(context),
            level: None,
            at: fields.text("context_test_date").and_then(|it| date(&it)),
            complete: fields.text("context_test_status").as_deref() == Some("completed"),
        }),
        ..ModelRecord::default()
    };
    model.speeds.first_token_s = fields.samples("ttft_seconds");
    model.speeds.decode = fields.samples("tps");
    if let Some(bad) = fields.tokens("last_known_bad_context") {
        let trial = model.trials.entry(Level::Loads).or_default();
        trial.bad = Some(bad);
        trial.why = Some("lmstrix could not use it".to_owned());
    }
    if fields.is("failed") {
        model.failures = 1;
        model.last_failure = fields.text("error_msg");
    }
    for name in ["description", "keywords"] {
        if let Some(value) = fields.0.get(name).filter(|it| !it.is_null()) {
            model.extra.insert(name.to_owned(), value.clone());
        }
    }
    let id = fields.text("id").unwrap_or_else(|| key.to_owned());
    (id, model)
}

/// Python writes local times without a zone; which zone is lost, and half a
/// day of error does no harm here.
fn date(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_speeds_and_odd_records_come_over() {
        let text = r#"{"path": "/lms", "llms": {
          "pub/repo/q.gguf": {"id": "qwen3-4b", "path": "pub/repo/q.gguf", "size_bytes": 2497280256,
            "ctx_in": 32768, "ctx_out": 4096, "has_tools": true, "has_vision": false,
            "tested_max_context": 31744, "context_test_status": "completed",
            "context_test_date": "2025-07-30T12:34:56.789012", "ttft_seconds": 0.5, "tps": 42.5,
            "last_known_bad_context": 40000, "keywords": ["chat"]},
          "b": {"id": "b", "ctx_in": 4096, "tested_max_context": 31744, "size_bytes": null, "failed": true,
            "error_msg": "boom", "context_test_date": "yesterday"},
          "again": {"id": "b", "ctx_in": 1}, "odd": 7}}"#;
        let models = import(text).unwrap();
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
        assert_eq!(first.trials[&Level::Loads].bad, Some(40000));
        assert!(first.tools && !first.vision);
        let second = &models[1].1;
        assert_eq!(second.tested.as_ref().unwrap().context, 4096);
        assert_eq!(
            (second.failures, second.last_failure.as_deref()),
            (1, Some("boom"))
        );
        for wrong in ["", "[]", r#"{"models":{}}"#] {
            assert!(import(wrong).is_err(), "{wrong}");
        }
    }
}
