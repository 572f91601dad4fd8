//! SentencePiece tokenizers (`tokenizer.ggml.model` is `llama`): adjacent spans are merged into
//! the token with the highest score, and spans that are not tokens in the end become byte
//! tokens.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::vocabulary::Vocabulary;

/// The character that SentencePiece uses for a space.
pub(super) const SPACE: &str = "\u{2581}";

/// Two adjacent spans that form a token together. Ordered by score, and of equal scores the
/// leftmost pair is the greatest.
struct MergeCandidate {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both spans when the candidate was added, to detect outdated candidates.
    bytes: usize,
}

impl Ord for MergeCandidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for MergeCandidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for MergeCandidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for MergeCandidate {}

/// A span of the text, as a node of a linked list. Its range is empty after it was merged into
/// the previous one.
struct TextSpan {
    range: Range<usize>,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Appends the tokens of a text in which [`SPACE`] replaces each space.
pub(super) fn encode(vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
    let count = text.chars().count();
    let mut spans: Vec<TextSpan> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, c))| TextSpan {
            range: start..start + c.len_utf8(),
            previous: index.checked_sub(1),
            next: (index + 1 < count).then_some(index + 1),
        })
        .collect();
    let mut queue = BinaryHeap::new();
    let add =
        |queue: &mut BinaryHeap<MergeCandidate>, spans: &[TextSpan], left: usize, right: usize| {
            let merged = &text[spans[left].range.start..spans[right].range.end];
            if let Some(id) = vocabulary.ids.get(merged) {
                queue.push(MergeCandidate {
                    // Adding zero turns a negative zero into zero.
                    score: vocabulary.scores[*id as usize] + 0.0,
                    left,
                    right,
                    bytes: merged.len(),
                });
            }
        };
    for right in 1..count {
        add(&mut queue, &spans, right - 1, right);
    }
    while let Some(pair) = queue.pop() {
        let (left, right) = (&spans[pair.left].range, &spans[pair.right].range);
        if left.is_empty() || right.is_empty() || left.len() + right.len() != pair.bytes {
            continue;
        }
        let end = right.end;
        spans[pair.left].range.end = end;
        spans[pair.right].range = end..end;
        let next = spans[pair.right].next;
        spans[pair.left].next = next;
        if let Some(previous) = spans[pair.left].previous {
            add(&mut queue, &spans, previous, pair.left);
        }
        if let Some(next) = next {
            spans[next].previous = Some(pair.left);
            add(&mut queue, &spans, pair.left, next);
        }
    }
    for span in spans.iter().filter(|span| !span.range.is_empty()) {
        let span_text = &text[span.range.clone()];
        match vocabulary.ids.get(span_text) {
            Some(id) => tokens.push(*id),
            None => tokens.extend(
                span_text
                    .bytes()
                    .filter_map(|byte| byte_token(vocabulary, byte)),
            ),
        }
    }
}

/// Returns the token of a byte, such as `<0x0A>`.
pub(super) fn byte_token(vocabulary: &Vocabulary, byte: u8) -> Option<u32> {
    vocabulary.ids.get(&format!("<0x{byte:02X}>")).copied()
}
