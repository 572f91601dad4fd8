//! The chat template of a file: Jinja, run the way Hugging Face's
//! transformers runs it, with a limit on the work that a template may do.
//!
//! `strftime_now` gives a fixed day, so that the same prompt is the same text
//! tomorrow; it is the day that Llama 3's own template falls back to.

use std::collections::BTreeMap;

use minijinja::value::{Rest, Value};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, context};

use super::Error;
use crate::inference::Message;

/// Real templates take some thousand steps. This ends loops; it does not bound
/// memory, since one step can double a value: a model's file is trusted that
/// far, and a pack is not.
const STEPS_MAX: u64 = 200_000;
/// The longest template; real ones have up to some ten kilobytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// What a template may do with every byte of the messages on top.
const STEPS_PER_BYTE: u64 = 4;

/// A chat template and what it may name.
#[derive(Debug)]
pub(super) struct Template {
    source: String,
    beginning: String,
    end: String,
}

/// What the template raises by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl Template {
    pub(super) fn new(source: &str, beginning: &str, end: &str) -> Self {
        Self {
            source: source.to_owned(),
            beginning: beginning.to_owned(),
            end: end.to_owned(),
        }
    }

    /// The exact text that the model is sent, up to where its answer begins.
    ///
    /// `thinking` is what templates of reasoning models know as
    /// `enable_thinking`; unset leaves the choice to the template.
    pub(super) fn render(
        &self,
        messages: &[Message],
        thinking: Option<bool>,
    ) -> Result<String, Error> {
        if self.source.len() > SOURCE_BYTES_MAX {
            let message = format!("it has {} bytes", self.source.len());
            return Err(Error::Template { message });
        }
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let steps = STEPS_MAX.saturating_add((bytes as u64).saturating_mul(STEPS_PER_BYTE));
        let environment = environment(steps).map_err(|error| fault(&error))?;
        let template = environment
            .template_from_named_str("chat_template", &self.source)
            .map_err(|error| fault(&error))?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        let mut known = BTreeMap::from([
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.beginning.as_str())),
            ("eos_token", Value::from(self.end.as_str())),
        ]);
        if let Some(thinking) = thinking {
            known.insert("enable_thinking", Value::from(thinking));
        }
        template
            .render(Value::from(known))
            .map_err(|error| fault(&error))
    }

    /// Whether the template looks at `enable_thinking` at all.
    pub(super) fn knows_thinking(&self) -> bool {
        knows_thinking(&self.source)
    }
}

/// Whether a template's source looks at `enable_thinking` at all.
pub(super) fn knows_thinking(source: &str) -> bool {
    source.contains("enable_thinking")
}

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

/// Python's methods of texts, lists and maps, but for `format`: its widths
/// allocate without limit, and no chat template was seen to use it.
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
            .with_source(Refusal(message)),
    )
}

/// 26 July 2024, a Friday, midnight.
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

/// Python's `json.dumps`: unlike minijinja's own filter it leaves `<`, `>`,
/// `&` and `'` alone.
fn tojson(state: &State, value: &Value, rest: Rest<Value>) -> Result<Value, minijinja::Error> {
    let mut args = vec![value.clone()];
    args.extend(rest.0);
    let builtin = Environment::new();
    let escaped = builtin.empty_state().apply_filter("tojson", &args)?;
    let escaped = escaped.to_string();
    state.consume_fuel(escaped.len() as u64 / 64)?;
    let mut plain = String::with_capacity(escaped.len());
    let mut left = escaped.as_str();
    while let Some(start) = left.find('\\') {
        plain.push_str(&left[..start]);
        left = &left[start..];
        let (piece, length) = match left.get(..6) {
            Some("\\u003c") => ("<", 6),
            Some("\\u003e") => (">", 6),
            Some("\\u0026") => ("&", 6),
            Some("\\u0027") => ("'", 6),
            // An escape and the character that it escapes belong together:
            // the text \\u003c means a backslash, then u003c.
            _ => left
                .split_at_checked(2)
                .map_or((left, left.len()), |(two, _)| (two, 2)),
        };
        plain.push_str(piece);
        left = &left[length..];
    }
    plain.push_str(left);
    Ok(Value::from_safe_string(plain))
}

/// A template's own refusal, or its failure.
fn fault(error: &minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(Refusal(message)) = error.downcast_ref() {
            return Error::Refused {
                message: message.clone(),
            };
        }
        source = error.source();
    }
    Error::Template {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Role;

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
        Message {
            role,
            content: content.into(),
        }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, Error> {
        Template::new(source, "<s>", "</s>").render(messages, None)
    }

    #[test]
    fn the_usual_templates_render() {
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
        let refused = render(GEMMA, &[system, user]).unwrap_err();
        assert!(
            matches!(&refused, Error::Refused { message } if message == "System role not supported"),
            "{refused}"
        );
    }

    #[test]
    fn thinking_can_be_switched_off() {
        let template = Template::new(CHATML, "", "");
        assert!(template.knows_thinking());
        let off = template.render(&[], Some(false)).unwrap();
        assert!(off.ends_with("<think>\n\n</think>\n\n"));
        let on = template.render(&[], Some(true)).unwrap();
        assert!(on.ends_with("assistant\n"));
    }

    #[test]
    fn json_is_as_python_writes_it() {
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
    fn broken_and_endless_templates_are_errors() {
        for source in [
            "{% if %}",
            "{{ messages[0].content.explode() }}",
            "{{ unknown() }}",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
            "{{ 'x' * 99999999999 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        ] {
            let error = render(source, &[message(Role::User, "hi")]).unwrap_err();
            assert!(matches!(error, Error::Template { .. }), "{source}: {error}");
        }
    }
}
