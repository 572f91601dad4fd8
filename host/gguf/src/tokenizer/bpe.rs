//! Byte-level byte pair encoding: every byte is represented by a printable character, and
//! adjacent symbols are merged in the order of the file's merge list.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::pre_tokenizer::{PreTokenizer, PreTokenizerRule};
use super::vocabulary::Vocabulary;

/// The number of a text that occurs as a token or in a merge.
type Symbol = u32;

/// A byte pair encoder with the merges of a vocabulary. It merges symbols rather than tokens,
/// because some intermediate results of merges are not tokens.
#[derive(Debug)]
pub(super) struct BytePairEncoder {
    pre_tokenizer: PreTokenizer,
    /// See [`PreTokenizerRule::whole_words`].
    whole_words: bool,
    symbols: HashMap<String, Symbol>,
    /// The token of each symbol, if it is a token.
    tokens: Vec<Option<u32>>,
    /// The tokens of symbols that are not tokens.
    fallbacks: HashMap<Symbol, Vec<u32>>,
    /// Maps a left and a right symbol to the rank of their merge and the merged symbol.
    ranks: HashMap<(Symbol, Symbol), (u32, Symbol)>,
    /// The symbol of each byte, indexed by the byte.
    bytes: Vec<Symbol>,
}

/// A symbol of a word that is being merged, as a node of a linked list.
struct MergeNode {
    symbol: Symbol,
    /// True if the node was merged into the previous one.
    merged: bool,
    previous: Option<usize>,
    next: Option<usize>,
}

impl BytePairEncoder {
    /// Returns an error if a merge or a pattern of the rule is invalid.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        rule: PreTokenizerRule,
        merges: &[String],
    ) -> Result<Self, String> {
        let mut this = Self {
            pre_tokenizer: PreTokenizer::new(rule)?,
            whole_words: rule.whole_words,
            symbols: HashMap::new(),
            tokens: Vec::new(),
            fallbacks: HashMap::new(),
            ranks: HashMap::with_capacity(merges.len()),
            bytes: Vec::new(),
        };
        this.bytes = (0..=255)
            .map(|byte| this.intern(byte_to_char(byte).encode_utf8(&mut [0; 4])))
            .collect();
        for text in &vocabulary.texts {
            this.intern(text);
        }
        for (rank, merge) in (0u32..).zip(merges) {
            // The left part may start with a space, so the separator is searched after the
            // first character.
            let separator = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
            let Some((separator, _)) = separator else {
                return Err(format!("merge {rank} of the tokenizer has only one part"));
            };
            let (left, right) = (&merge[..separator], &merge[separator + 1..]);
            let merged = this.intern(&format!("{left}{right}"));
            let pair = (this.intern(left), this.intern(right));
            this.ranks.entry(pair).or_insert((rank, merged));
        }
        this.tokens = vec![None; this.symbols.len()];
        for (text, symbol) in &this.symbols {
            match vocabulary.ids.get(text) {
                Some(token) => this.tokens[*symbol as usize] = Some(*token),
                None => {
                    let tokens = fallback_tokens(vocabulary, text);
                    this.fallbacks.insert(*symbol, tokens);
                }
            }
        }
        Ok(this)
    }

    /// Appends the tokens of a text without special tokens.
    ///
    /// # Errors
    /// Returns an error if a pattern of the pre-tokenizer fails.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), String> {
        for word in self.pre_tokenizer.split(text)? {
            let word = &text.as_bytes()[word];
            if self.whole_words && self.push_whole_word(word, tokens) {
                continue;
            }
            for symbol in self.merge(word) {
                self.push_symbol(symbol, tokens);
            }
        }
        Ok(())
    }

    /// Appends the token of a whole word. Returns false if the word is not a token.
    fn push_whole_word(&self, word: &[u8], tokens: &mut Vec<u32>) -> bool {
        let text: String = word.iter().map(|byte| byte_to_char(*byte)).collect();
        let token = self
            .symbols
            .get(&text)
            .and_then(|symbol| self.tokens[*symbol as usize]);
        tokens.extend(token);
        token.is_some()
    }

    /// Appends the token or fallback tokens of a symbol.
    fn push_symbol(&self, symbol: Symbol, tokens: &mut Vec<u32>) {
        match self.tokens[symbol as usize] {
            Some(token) => tokens.push(token),
            None => tokens.extend(self.fallbacks.get(&symbol).into_iter().flatten()),
        }
    }

    /// Merges the bytes of a word. Each step merges the pair with the lowest rank, and of equal
    /// ranks the leftmost pair.
    fn merge(&self, word: &[u8]) -> impl Iterator<Item = Symbol> + use<> {
        let count = word.len();
        let mut nodes: Vec<MergeNode> = word
            .iter()
            .enumerate()
            .map(|(index, byte)| MergeNode {
                symbol: self.bytes[usize::from(*byte)],
                merged: false,
                previous: index.checked_sub(1),
                next: (index + 1 < count).then_some(index + 1),
            })
            .collect();
        // Entries: rank, left node, right node, their symbols at that time, merged symbol.
        let mut queue = BinaryHeap::new();
        let add = |queue: &mut BinaryHeap<_>, nodes: &[MergeNode], left: usize, right: usize| {
            let pair = (nodes[left].symbol, nodes[right].symbol);
            if let Some((rank, merged)) = self.ranks.get(&pair) {
                queue.push(Reverse((*rank, left, right, pair, *merged)));
            }
        };
        for right in 1..count {
            add(&mut queue, &nodes, right - 1, right);
        }
        while let Some(Reverse((_, left, right, pair, merged))) = queue.pop() {
            let outdated = nodes[left].merged
                || nodes[right].merged
                || (nodes[left].symbol, nodes[right].symbol) != pair;
            if outdated {
                continue;
            }
            nodes[left].symbol = merged;
            nodes[right].merged = true;
            let next = nodes[right].next;
            nodes[left].next = next;
            if let Some(next) = next {
                nodes[next].previous = Some(left);
                add(&mut queue, &nodes, left, next);
            }
            if let Some(previous) = nodes[left].previous {
                add(&mut queue, &nodes, previous, left);
            }
        }
        nodes
            .into_iter()
            .filter(|node| !node.merged)
            .map(|node| node.symbol)
    }

    /// Returns the symbol of a text, and assigns the next number to a new text.
    fn intern(&mut self, text: &str) -> Symbol {
        let next = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
        match self.symbols.get(text) {
            Some(symbol) => *symbol,
            None => *self.symbols.entry(text.to_owned()).or_insert(next),
        }
    }
}

/// Returns the character that represents a byte in GPT-2's byte-level vocabulary: printable
/// Latin-1 characters represent themselves, the other bytes follow from U+0100 on, in order.
pub(super) fn byte_to_char(byte: u8) -> char {
    let shifted = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=b' ' => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 33,
        0xad => 67,
    };
    char::from_u32(0x100 + shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Returns the byte that a character represents; the inverse of [`byte_to_char`].
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Returns the tokens of a text that is not a token: its ASCII characters that are tokens.
/// Other characters are lost, as in llama.cpp. This does not occur with trained vocabularies.
fn fallback_tokens(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
    text.chars()
        .filter(char::is_ascii)
        .filter_map(|c| vocabulary.ids.get(c.encode_utf8(&mut [0; 4]) as &str))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_maps_to_a_distinct_character() {
        for byte in 0..=255 {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        assert_eq!(char_to_byte('\u{144}'), None);
    }
}
