//! Reads the numbers of an error about the context, each with its role.

/// The numbers of tokens in an error about the context, as far as the server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OverflowNumbers {
    pub(super) prompt: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) context: Option<u64>,
}

/// Words directly after a number that tell its role.
const OUTPUT_AFTER: [&str; 8] = [
    "in the output",
    "in the completion",
    "in completion",
    "for the completion",
    "tokens for the completion",
    "output tokens",
    "`max_new_tokens`",
    "max_new_tokens",
];
const PROMPT_AFTER: [&str; 10] = [
    "of text input",
    "in the messages",
    "in your prompt",
    "in the prompt",
    "in the input",
    "input tokens",
    "prompt tokens",
    "tokens from the input",
    "tokens in the prompt",
    "`inputs` tokens",
];
const CONTEXT_AFTER: [&str; 2] = ["maximum", "token limit"];

/// Words before a number that tell its role, if the words after it do not.
const OUTPUT_BEFORE: [&str; 2] = ["is too large:", "max_tokens:"];
const CONTEXT_BEFORE: [&str; 7] = [
    "context length",
    "context size",
    "context window",
    "n_ctx",
    "must be <=",
    "context limit",
    "available context",
];
const PROMPT_BEFORE: [&str; 9] = [
    "keep the first",
    "resulted in",
    "request (",
    "prompt (",
    "prompt has",
    "prompt contains",
    "your request has",
    "prompt is too long:",
    "you requested",
];

/// Reads the numbers of a message in lower case.
pub(super) fn parse(text: &str) -> OverflowNumbers {
    let numbers = numbers(text);
    let mut found = OverflowNumbers::default();
    let mut unknown = Vec::new();
    for (value, before, after) in &numbers {
        let after = after.trim_start();
        let follows = |words: &[&str]| words.iter().any(|word| after.starts_with(word));
        let precedes = |words: &[&str]| words.iter().any(|word| before.contains(word));
        let role = if follows(&OUTPUT_AFTER) {
            &mut found.output
        } else if follows(&PROMPT_AFTER) {
            &mut found.prompt
        } else if follows(&CONTEXT_AFTER) {
            &mut found.context
        } else if precedes(&OUTPUT_BEFORE) {
            &mut found.output
        } else if precedes(&CONTEXT_BEFORE) {
            &mut found.context
        } else {
            unknown.push((*value, precedes(&PROMPT_BEFORE)));
            continue;
        };
        role.get_or_insert(*value);
    }
    // A number that may be the sum of prompt and output counts only without either.
    if found.prompt.is_none() && found.output.is_none() {
        let named = unknown.iter().find(|(_, is_prompt)| *is_prompt);
        let only = match unknown[..] {
            [only] => Some(only),
            _ => None,
        };
        found.prompt = named.copied().or(only).map(|(value, _)| value);
    }
    found
}

/// Returns each number, with the text before it up to the last number, and the text after it
/// up to the next one.
fn numbers(text: &str) -> Vec<(u64, &str, &str)> {
    let mut spans = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_ascii_digit(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                spans.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    let mut numbers = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let last_end = index.checked_sub(1).and_then(|last| spans.get(last));
        let before = last_end.map_or(0, |last| last.end);
        let after = spans.get(index + 1).map_or(text.len(), |next| next.start);
        if let Ok(value) = text[span.clone()].parse() {
            numbers.push((value, &text[before..span.start], &text[span.end..after]));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_roles() {
        for (text, prompt, output, context) in [
            // vLLM, in three versions.
            (
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (3000 in the messages, 2000 in the completion). Please reduce the length of the messages or completion.",
                3000,
                2000,
                4096,
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context length is 4096 tokens and your request has 3000 input tokens (2000 > 4096 - 3000).",
                3000,
                2000,
                4096,
            ),
            (
                "This model's maximum context length is 4096 tokens. However, you requested 2000 output tokens and your prompt contains at least 3001 input tokens, for a total of at least 5001 tokens.",
                3001,
                2000,
                4096,
            ),
            // SGLang, TGI.
            (
                "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5000 tokens: 3000 tokens from the input messages and 2000 tokens for the completion.",
                3000,
                2000,
                4096,
            ),
            (
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 2000 `max_new_tokens`",
                3000,
                2000,
                4096,
            ),
            // OpenRouter.
            (
                "This endpoint's maximum context length is 131072 tokens. However, you requested about 139521 tokens (138021 of text input, 1500 in the output).",
                138_021,
                1500,
                131_072,
            ),
            // Only the prompt.
            (
                "However, your messages resulted in 9000 tokens. maximum context length is 4096 tokens",
                9000,
                0,
                4096,
            ),
            (
                "trying to keep the first 9000 tokens when context overflows. context length of only 4096 tokens",
                9000,
                0,
                4096,
            ),
            (
                "request (9000 tokens) exceeds the available context size (8192 tokens)",
                9000,
                0,
                8192,
            ),
            (
                "prompt is too long: 9000 tokens > 4096 maximum",
                9000,
                0,
                4096,
            ),
            ("context size has been exceeded", 0, 0, 0),
        ] {
            let some = |value: u64| Some(value).filter(|value| *value > 0);
            let expected = OverflowNumbers {
                prompt: some(prompt),
                output: some(output),
                context: some(context),
            };
            assert_eq!(parse(&text.to_lowercase()), expected, "{text}");
        }
    }
}
