//! `--show-request`: exactly what is sent, and what the engine does with it. It explains
//! why an answer differs from one in LM Studio's window.

use std::fmt::Write;

use lmstrix::engine::Instance;
use lmstrix::job::PreparedJob;
use lmstrix::sink::is_control;
use lmstrix_inference::{Origin, Prompt, SETTINGS, SettingInfo, SettingSupport};

/// Returns the text for stderr. `rendered` is the prompt after the model's chat
/// template, where the engine reports it.
pub(super) fn shown(
    job: &PreparedJob,
    instance: &Instance,
    rendered: Option<String>,
    requested_context: Option<u32>,
) -> String {
    let PreparedJob {
        prompt, settings, ..
    } = job;
    let model = &instance.selected;
    let mut text = format!(
        "request to {}, model `{}`",
        model.display_name(),
        escaped_line(&model.model)
    );
    if instance.id() != model.model {
        let _infallible = write!(text, ", instance `{}`", escaped_line(instance.id()));
    }
    let tokens = |count: Option<u32>, none: &str| match count {
        Some(count) => format!("{count} tokens"),
        None => none.to_owned(),
    };
    let _infallible = write!(
        text,
        "\ncontext: requested: {}; instance: {}; declared by the model: {}\n",
        tokens(requested_context, "nothing"),
        tokens(instance.context(), "unknown"),
        tokens(instance.declared_context(), "unknown"),
    );
    match prompt {
        Prompt::Raw(raw) => {
            text.push_str("prompt, raw, without a chat template:\n");
            quote(raw, "", &mut text);
        }
        Prompt::Chat(messages) => {
            for message in messages {
                let _infallible = writeln!(text, "{} message:", message.role.as_str());
                quote(&message.content, "", &mut text);
                for name in &message.attachments {
                    let Some(image) = job.images.iter().find(|image| image.name == *name) else {
                        continue;
                    };
                    let _infallible = writeln!(
                        text,
                        "  image `{}` ({}, {} bytes)",
                        escaped_line(name),
                        image.format.media_type(),
                        image.content.len()
                    );
                }
            }
            match rendered {
                Some(rendered) => {
                    text.push_str("after the model's chat template:\n");
                    quote(&rendered, "", &mut text);
                }
                None => text.push_str(
                    "the server applies the model's chat template and does not report the result\n",
                ),
            }
        }
    }
    text.push_str("settings (value, origin, what the engine does with it, LM Studio's default):\n");
    for (name, value, origin) in settings.values() {
        // Shown below, since stop sequences can be long.
        if name == "stop" {
            continue;
        }
        let support = match model.support(prompt, settings, name) {
            SettingSupport::Honoured => "honoured",
            SettingSupport::Dropped => "dropped",
            SettingSupport::Rejected => "not accepted",
            SettingSupport::Unknown => "unknown",
        };
        let value = match (name, value) {
            ("json_schema", _) => "(a schema)".to_owned(),
            (_, value) => escaped_line(&value.to_string()),
        };
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let default = setting
            .and_then(SettingInfo::default)
            .map_or_else(|| "off".to_owned(), |default| default.to_string());
        let differs = if default == value || origin == Origin::Default {
            ""
        } else {
            " (differs)"
        };
        let name = escaped_line(name);
        let _infallible = writeln!(
            text,
            "  {name:<18} {value:<12} {:<12} {support:<13} {default}{differs}",
            origin_name(origin)
        );
    }
    match &settings.stop.value[..] {
        [] => text.push_str("stop texts: none"),
        stop => {
            let stop: Vec<String> = stop
                .iter()
                .map(|stop| format!("\"{}\"", escaped_line(stop)))
                .collect();
            let _infallible = write!(
                text,
                "stop texts ({}): {}",
                origin_name(settings.stop.origin),
                stop.join(", ")
            );
        }
    }
    text
}

fn origin_name(origin: Origin) -> &'static str {
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

/// Writes each line after a bar, with its line end escaped, so that trailing blanks
/// are visible.
fn quote(content: &str, indent: &str, text: &mut String) {
    for line in content.split_inclusive('\n') {
        let _infallible = writeln!(text, "{indent}  | {}", escaped_line(line));
    }
    if content.is_empty() {
        let _infallible = writeln!(text, "{indent}  | (empty)");
    }
}

/// Returns the text in one line, with control characters escaped.
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
    fn every_character_is_distinguishable() {
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
