//! Renders the Jinja chat template of a file as Hugging Face's transformers does, with a
//! limit on the number of steps.
//!
//! `strftime_now` returns a fixed date, so that a prompt gives the same text every day. It is
//! the default date of Llama 3's template.

use std::collections::BTreeMap;

use lmstrix_inference::Message;
use minijinja::value::{Rest, Value};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, context};

use super::Error;

/// Maximum number of steps, without those for the messages. Real templates take some thousand
/// steps. The limit ends endless loops; it does not bound memory, since one step can double a
/// value. Unlike packs, model files are trusted in this respect.
const STEPS_MAX: u64 = 200_000;
/// Maximum size of a template in bytes. Real templates have up to some ten kilobytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Additional steps for each byte of the messages.
const STEPS_PER_BYTE: u64 = 4;

/// A chat template and the special tokens that it can refer to.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    source: String,
    bos_token: String,
    eos_token: String,
}

/// The error that a template raises with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TemplateException(String);

impl ChatTemplate {
    pub(super) fn new(source: &str, bos_token: &str, eos_token: &str) -> Self {
        Self {
            source: source.to_owned(),
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        }
    }

    /// Returns the exact text of the prompt, up to the beginning of the answer.
    ///
    /// `thinking` is passed as `enable_thinking`, which templates of reasoning models use;
    /// `None` leaves the choice to the template.
    ///
    /// # Errors
    /// Returns an error if the template is too large, cannot be parsed or rendered, exceeds
    /// the number of steps, or rejects the messages.
    pub(super) fn render(
        &self,
        messages: &[Message],
        thinking: Option<bool>,
    ) -> Result<String, Error> {
        if self.source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "it has {} bytes, the limit is {SOURCE_BYTES_MAX}",
                self.source.len()
            );
            return Err(Error::ChatTemplate { message });
        }
        let content_bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let steps = STEPS_MAX.saturating_add((content_bytes as u64).saturating_mul(STEPS_PER_BYTE));
        let environment = environment(steps).map_err(|error| template_error(&error))?;
        let template = environment
            .template_from_named_str("chat_template", &self.source)
            .map_err(|error| template_error(&error))?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        let mut variables = BTreeMap::from([
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.bos_token.as_str())),
            ("eos_token", Value::from(self.eos_token.as_str())),
        ]);
        if let Some(thinking) = thinking {
            variables.insert("enable_thinking", Value::from(thinking));
        }
        template
            .render(Value::from(variables))
            .map_err(|error| template_error(&error))
    }

    /// Returns true if the template uses `enable_thinking`.
    pub(super) fn supports_thinking(&self) -> bool {
        supports_thinking(&self.source)
    }
}

/// Returns true if a template's source uses `enable_thinking`.
pub(super) fn supports_thinking(source: &str) -> bool {
    source.contains("enable_thinking")
}

/// Returns a Jinja environment with the functions that chat templates use and a limit of
/// `steps`.
fn environment(steps: u64) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(steps));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    Ok(environment)
}

/// Implements Python's methods of strings, lists and maps. `format` is excluded: its widths
/// allocate without limit, and no known chat template uses it.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    if method == "format" {
        return Err(minijinja::Error::from(ErrorKind::UnknownMethod));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(
        minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception")
            .with_source(TemplateException(message)),
    )
}

/// Formats the fixed date Friday, 26 July 2024, midnight.
fn strftime_now(format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match chars.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d') => "26",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('F') => "2024-07-26",
            Some('%') => "%",
            _ => "",
        });
    }
    out
}

/// Formats JSON as Python's `json.dumps` does: unlike minijinja's filter, it does not escape
/// `<`, `>`, `&` and `'`.
fn tojson(state: &State, value: &Value, options: Rest<Value>) -> Result<Value, minijinja::Error> {
    let mut args = vec![value.clone()];
    args.extend(options.0);
    let builtin = Environment::new();
    let escaped = builtin.empty_state().apply_filter("tojson", &args)?;
    let escaped = escaped.to_string();
    state.consume_fuel(escaped.len() as u64 / 64)?;
    let mut unescaped = String::with_capacity(escaped.len());
    let mut rest = escaped.as_str();
    while let Some(start) = rest.find('\\') {
        unescaped.push_str(&rest[..start]);
        rest = &rest[start..];
        let (piece, length) = match rest.get(..6) {
            Some("\\u003c") => ("<", 6),
            Some("\\u003e") => (">", 6),
            Some("\\u0026") => ("&", 6),
            Some("\\u0027") => ("'", 6),
            // Copy a backslash together with the character that it escapes: `\\u003c` is an
            // escaped backslash followed by `u003c`.
            _ => rest
                .split_at_checked(2)
                .map_or((rest, rest.len()), |(escape, _)| (escape, 2)),
        };
        unescaped.push_str(piece);
        rest = &rest[length..];
    }
    unescaped.push_str(rest);
    Ok(Value::from_safe_string(unescaped))
}

/// Converts an error of the template engine, which may wrap a [`TemplateException`].
fn template_error(error: &minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(TemplateException(message)) = error.downcast_ref() {
            return Error::TemplateRejected {
                message: message.clone(),
            };
        }
        source = error.source();
    }
    Error::ChatTemplate {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmstrix_inference::Role;

    const CHATML: &str = "{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}";
    const LLAMA3: &str = "{{- bos_token }}
{%- if strftime_now is defined %}
    {%- set date = strftime_now('%d %b %Y') %}
{%- else %}
    {%- set date = '26 Jul 2024' %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date + '\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if not loop.first and message.role not in ['user', 'assistant'] %}{% break %}{% endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}";
    const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% set role = message['role'].replace('assistant', 'model') %}{{ '<start_of_turn>' + role + '\n' + message['content'].strip() + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

    fn message(role: Role, content: &str) -> Message {
        Message::new(role, content)
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, Error> {
        ChatTemplate::new(source, "<s>", "</s>").render(messages, None)
    }

    #[test]
    fn common_templates_are_rendered() {
        let (system, user) = (
            message(Role::System, " be brief "),
            message(Role::User, " hi\n"),
        );
        assert_eq!(
            render(CHATML, &[system.clone(), user.clone()]).unwrap(),
            "<|im_start|>system\n be brief <|im_end|>\n<|im_start|>user\n hi\n<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            render(LLAMA3, &[system.clone(), user.clone()]).unwrap(),
            "<s><|start_header_id|>system<|end_header_id|>\n\nToday: 26 Jul 2024\nbe brief<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        assert_eq!(
            render(GEMMA, std::slice::from_ref(&user)).unwrap(),
            "<s><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"
        );
        let error = render(GEMMA, &[system, user]).unwrap_err();
        assert!(
            matches!(&error, Error::TemplateRejected { message } if message == "System role not supported"),
            "{error}"
        );
    }

    #[test]
    fn thinking_can_be_disabled() {
        let template = ChatTemplate::new(CHATML, "", "");
        assert!(template.supports_thinking());
        let off = template.render(&[], Some(false)).unwrap();
        assert!(off.ends_with("<think>\n\n</think>\n\n"));
        let on = template.render(&[], Some(true)).unwrap();
        assert!(on.ends_with("assistant\n"));
    }

    #[test]
    fn json_is_formatted_as_in_python() {
        let content = "<a> & 'b' \\u003c \"é\"\n";
        let rendered = render(
            "{{ messages[0].content | tojson }}",
            &[message(Role::User, content)],
        );
        assert_eq!(rendered.unwrap(), r#""<a> & 'b' \\u003c \"é\"\n""#);
        let rendered = render("{{ {'a': [1, none, true]} | tojson }}", &[]);
        assert_eq!(rendered.unwrap(), r#"{"a": [1, null, true]}"#);
    }

    #[test]
    fn invalid_and_endless_templates_are_errors() {
        for source in [
            "{% if %}",
            "{{ messages[0].content.explode() }}",
            "{{ unknown() }}",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
            "{{ 'x' * 99999999999 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        ] {
            let error = render(source, &[message(Role::User, "hi")]).unwrap_err();
            assert!(
                matches!(error, Error::ChatTemplate { .. }),
                "{source}: {error}"
            );
        }
    }
}
