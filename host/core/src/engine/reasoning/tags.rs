//! The tags around reasoning.

/// Opening and closing tags, in lower case.
pub(super) const TAGS: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("[thinking]", "[/thinking]"),
    ("◁think▷", "◁/think▷"),
    ("<|start_thinking|>", "<|end_thinking|>"),
];

/// Returns the opening tag with which a chat template ends the prompt, judged by its text:
/// the part for the answer has opening tags only. With a closing one, too, it depends on
/// parameters.
pub(in crate::engine) fn tag_opened_by_template(template: &str) -> Option<&'static str> {
    let lower = template.to_ascii_lowercase();
    let answer_part = lower.rsplit("add_generation_prompt").next()?;
    if TAGS.iter().any(|(_, close)| answer_part.contains(close)) {
        return None;
    }
    let opening = TAGS.iter().map(|(open, _)| *open);
    opening.into_iter().find(|open| answer_part.contains(open))
}

pub(super) fn all_tags() -> impl Iterator<Item = &'static str> {
    TAGS.into_iter().flat_map(|(open, close)| [open, close])
}

/// Returns the position of the first of some tags, and that tag.
pub(super) fn find_first<'a>(
    text: &str,
    tags: impl IntoIterator<Item = &'a str>,
) -> Option<(usize, &'a str)> {
    tags.into_iter()
        .filter_map(|tag| Some((text.find(tag)?, tag)))
        .min_by_key(|(at, _)| *at)
}

/// Returns the number of bytes at the end of `text` that may be the start of a tag.
pub(super) fn partial_tag_len<'a>(text: &str, tags: impl IntoIterator<Item = &'a str>) -> usize {
    let partial = |tag: &str| {
        (1..tag.len())
            .rev()
            .find(|&n| tag.is_char_boundary(n) && text.ends_with(&tag[..n]))
            .unwrap_or(0)
    };
    tags.into_iter().map(partial).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_opens_a_span_if_it_has_only_opening_tags_for_the_answer() {
        for (template, tag) in [
            (
                "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}",
                Some("<think>"),
            ),
            (
                "{{ x.split('<think>') }}{% if add_generation_prompt %}{{ 'assistant\\n' }}{% endif %}",
                None,
            ),
            (
                "{% if add_generation_prompt %}{% if off %}{{ '<think>\\n\\n</think>' }}{% else %}{{ '<think>\\n' }}{% endif %}",
                None,
            ),
            (
                "{% if add_generation_prompt %}{% if off %}{{ '<think>\\n\\n</think>' }}{% endif %}",
                None,
            ),
            ("{{ .Prompt }}<|Assistant|><think>\n", Some("<think>")),
            ("{{ .Prompt }}", None),
        ] {
            assert_eq!(tag_opened_by_template(template), tag, "{template}");
        }
    }
}
