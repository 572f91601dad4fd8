//! SentencePiece tokenizers (`tokenizer.ggml.model` is `llama`): neighbours
//! are merged into the token of the highest score, and what is no token in
//! the end is written as bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::vocabulary::Vocabulary;

/// SentencePiece's visible space.
pub(super) const SPACE: &str = "\u{2581}";

/// Two neighbours that would make a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    bytes: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// A piece of the text; empty once it is merged into the one before it.
struct Piece {
    range: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
}

/// Appends the tokens of a text that has no spaces but visible ones.
pub(super) fn encode(vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
    let count = text.chars().count();
    let mut pieces: Vec<Piece> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, c))| Piece {
            range: start..start + c.len_utf8(),
            before: index.checked_sub(1),
            after: (index + 1 < count).then_some(index + 1),
        })
        .collect();
    let mut pairs = BinaryHeap::new();
    let add = |pairs: &mut BinaryHeap<Pair>, pieces: &[Piece], left: usize, right: usize| {
        let merged = &text[pieces[left].range.start..pieces[right].range.end];
        if let Some(id) = vocabulary.ids.get(merged) {
            pairs.push(Pair {
                // Plus zero, so that no score is a negative zero.
                score: vocabulary.scores[*id as usize] + 0.0,
                left,
                right,
                bytes: merged.len(),
            });
        }
    };
    for right in 1..count {
        add(&mut pairs, &pieces, right - 1, right);
    }
    while let Some(pair) = pairs.pop() {
        let (left, right) = (&pieces[pair.left].range, &pieces[pair.right].range);
        if left.is_empty() || right.is_empty() || left.len() + right.len() != pair.bytes {
            continue;
        }
        let end = right.end;
        pieces[pair.left].range.end = end;
        pieces[pair.right].range = end..end;
        let after = pieces[pair.right].after;
        pieces[pair.left].after = after;
        if let Some(before) = pieces[pair.left].before {
            add(&mut pairs, &pieces, before, pair.left);
        }
        if let Some(after) = after {
            pieces[after].before = Some(pair.left);
            add(&mut pairs, &pieces, pair.left, after);
        }
    }
    for piece in pieces.iter().filter(|piece| !piece.range.is_empty()) {
        let piece = &text[piece.range.clone()];
        match vocabulary.ids.get(piece) {
            Some(id) => tokens.push(*id),
            None => tokens.extend(
                piece
                    .bytes()
                    .filter_map(|byte| byte_token(vocabulary, byte)),
            ),
        }
    }
}

/// The token of a byte.
pub(super) fn byte_token(vocabulary: &Vocabulary, byte: u8) -> Option<u32> {
    vocabulary.ids.get(&format!("<0x{byte:02X}>")).copied()
}
