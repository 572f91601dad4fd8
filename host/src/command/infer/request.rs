//! `--show-request`: what is sent, to the last blank, and what the engine makes
//! of it. This is where an answer that differs from LM Studio's window is
//! explained.

use std::fmt::Write;

use crate::engine::Ready;
use crate::inference::{Layer, MaxTokens, Origin, Prompt, Settings, Support, defaults};
use crate::sink::is_control;

/// The whole text for stderr. `rendered` is the exact text for the model, where
/// the engine could tell it.
pub(super) fn shown(
    ready: &Ready,
    prompt: &Prompt,
    settings: &Settings,
    rendered: Option<String>,
    asked_context: Option<u32>,
) -> String {
    let chosen = &ready.chosen;
    let mut text = format!(
        "request to {}, model `{}`",
        chosen.shown(),
        escaped_line(&chosen.model)
    );
    if ready.instance() != chosen.model {
        let _infallible = write!(text, ", instance `{}`", escaped_line(ready.instance()));
    }
    let tokens = |count: Option<u32>, none: &str| match count {
        Some(count) => format!("{count} tokens"),
        None => none.to_owned(),
    };
    let _infallible = write!(
        text,
        "\ncontext: asked for: {}; the instance has: {}; the model was made for: {}\n",
        tokens(asked_context, "nothing"),
        tokens(ready.context(), "unknown"),
        tokens(ready.declared_context(), "unknown"),
    );
    match prompt {
        Prompt::Raw(raw) => {
            text.push_str("prompt, raw, without a chat template:\n");
            quote(raw, "", &mut text);
        }
        Prompt::Chat(messages) => {
            for message in messages {
                let _infallible = writeln!(text, "message of the {}:", message.role.as_str());
                quote(&message.content, "", &mut text);
            }
            match rendered {
                Some(rendered) => {
                    text.push_str("as the model's chat template makes it:\n");
                    quote(&rendered, "", &mut text);
                }
                None => text.push_str(
                    "the server puts this through the model's chat template, and does not say how\n",
                ),
            }
        }
    }
    text.push_str("settings (value, origin, what the engine does with it, LM Studio's default):\n");
    let usual = values(&of_layer(&defaults()));
    for (name, value, origin) in of_settings(settings) {
        let support = match chosen.support(prompt, settings, &name) {
            Support::Honoured => "honoured",
            Support::Dropped => "dropped",
            Support::Rejected => "not accepted",
            Support::Unknown => "unknown",
        };
        let usual = usual
            .iter()
            .find(|(it, _)| *it == name)
            .map_or("off", |(_, value)| value.as_str());
        let differs = if usual == value || origin == Origin::Default {
            ""
        } else {
            " (differs)"
        };
        let _infallible = writeln!(
            text,
            "  {name:<18} {value:<12} {:<12} {support:<13} {usual}{differs}",
            of_origin(origin)
        );
    }
    match &settings.stop.value[..] {
        [] => text.push_str("stop texts: none"),
        stop => {
            let stop: Vec<String> = stop
                .iter()
                .map(|it| format!("\"{}\"", escaped_line(it)))
                .collect();
            let _infallible = write!(
                text,
                "stop texts ({}): {}",
                of_origin(settings.stop.origin),
                stop.join(", ")
            );
        }
    }
    text
}

fn of_origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Flag => "flag",
        Origin::Plan => "plan",
        Origin::Environment => "environment",
        Origin::Prompt => "prompt",
        Origin::Config => "config",
        Origin::ModelFile => "model file",
        Origin::Default => "default",
    }
}

fn of_max_tokens(most: MaxTokens) -> String {
    match most {
        MaxTokens::Unlimited => "-1".to_owned(),
        MaxTokens::Tokens(tokens) => tokens.to_string(),
        MaxTokens::Percent(percent) => format!("{percent}%"),
    }
}

/// LM Studio's own defaults, by name.
fn of_layer(layer: &Layer) -> Vec<(&'static str, Option<String>)> {
    let number = |it: Option<f64>| it.map(|it| it.to_string());
    vec![
        ("temperature", number(layer.temperature)),
        ("top_k", layer.top_k.map(|it| it.to_string())),
        ("top_p", number(layer.top_p)),
        ("min_p", number(layer.min_p)),
        ("repeat_penalty", number(layer.repeat_penalty)),
        ("max_tokens", layer.max_tokens.map(of_max_tokens)),
    ]
}

fn values(found: &[(&'static str, Option<String>)]) -> Vec<(&'static str, String)> {
    found
        .iter()
        .filter_map(|(name, value)| Some((*name, value.clone()?)))
        .collect()
}

fn of_settings(settings: &Settings) -> Vec<(String, String, Origin)> {
    let value = |name: &str| -> String {
        let optional = |it: Option<crate::inference::Given<f64>>| {
            it.map_or_else(String::new, |it| it.value.to_string())
        };
        match name {
            "temperature" => settings.temperature.value.to_string(),
            "top_k" => settings.top_k.value.to_string(),
            "top_p" => settings.top_p.value.to_string(),
            "min_p" => settings.min_p.value.to_string(),
            "repeat_penalty" => settings.repeat_penalty.value.to_string(),
            "presence_penalty" => optional(settings.presence_penalty),
            "frequency_penalty" => optional(settings.frequency_penalty),
            "seed" => settings
                .seed
                .map_or_else(String::new, |it| it.value.to_string()),
            "max_tokens" => of_max_tokens(settings.max_tokens.value),
            "json_schema" => "(a schema)".to_owned(),
            "reasoning" => settings
                .reasoning
                .as_ref()
                .map_or_else(String::new, |it| it.value.clone()),
            other => settings
                .other
                .get(other)
                .map_or_else(String::new, |it| escaped_line(&it.value)),
        }
    };
    settings
        .origins()
        .into_iter()
        .filter(|(name, _)| *name != "stop")
        .map(|(name, origin)| (escaped_line(name), value(name), origin))
        .collect()
}

/// Every line behind a bar, with its end shown, so that blanks at ends count.
fn quote(content: &str, indent: &str, text: &mut String) {
    for line in content.split_inclusive('\n') {
        let _infallible = writeln!(text, "{indent}  | {}", escaped_line(line));
    }
    if content.is_empty() {
        let _infallible = writeln!(text, "{indent}  | (empty)");
    }
}

/// In one line, with everything visible that is not plain text.
fn escaped_line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            '\n' | '\t' | '\r' => shown.extend(c.escape_default()),
            '\x1b' => shown.push_str("\\e"),
            c if is_control(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_can_be_told() {
        for (text, shown) in [
            ("plain äö 漢", "plain äö 漢"),
            ("tab\tend \n", "tab\\tend \\n"),
            ("\x1b]52;c\x07", "\\e]52;c\\u{7}"),
            ("a\\n", "a\\\\n"),
            ("\u{202e}x\0", "\\u{202e}x\\u{0}"),
        ] {
            assert_eq!(escaped_line(text), shown);
        }
        let mut text = String::new();
        quote("one\ntwo", "", &mut text);
        assert_eq!(text, "  | one\\n\n  | two\n");
    }
}
