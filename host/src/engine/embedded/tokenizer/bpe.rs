//! Byte-level byte pair encoding: every byte is written as a printable
//! character, and neighbours are merged in the order of the file's list.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::split::{Rule, Splitter};
use super::vocabulary::Vocabulary;

/// A text that occurs as a token or in a merge.
type Symbol = u32;

/// The merges of a vocabulary. Texts are numbered once, so that merging works
/// on numbers; some merges lead over texts that are no tokens.
#[derive(Debug)]
pub(super) struct Merges {
    splitter: Splitter,
    whole_words: bool,
    symbols: HashMap<String, Symbol>,
    tokens: Vec<Option<u32>>,
    /// What is written for symbols that are no tokens.
    fallbacks: HashMap<Symbol, Vec<u32>>,
    /// Left and right symbol to rank and merged symbol.
    ranks: HashMap<(Symbol, Symbol), (u32, Symbol)>,
    /// The symbol of each byte.
    bytes: Vec<Symbol>,
}

/// A piece of a word that is being merged.
struct Piece {
    symbol: Symbol,
    /// Merged into the piece before it.
    gone: bool,
    before: Option<usize>,
    after: Option<usize>,
}

impl Merges {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        rule: Rule,
        merges: &[String],
    ) -> Result<Self, String> {
        let mut this = Self {
            splitter: Splitter::new(rule)?,
            whole_words: rule.whole_words,
            symbols: HashMap::new(),
            tokens: Vec::new(),
            fallbacks: HashMap::new(),
            ranks: HashMap::with_capacity(merges.len()),
            bytes: Vec::new(),
        };
        this.bytes = (0..=255)
            .map(|byte| this.symbol(byte_char(byte).encode_utf8(&mut [0; 4])))
            .collect();
        for text in &vocabulary.texts {
            this.symbol(text);
        }
        for (rank, merge) in (0u32..).zip(merges) {
            // The left part may itself be a space, so the search begins later.
            let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
            let Some((space, _)) = space else {
                return Err(format!("merge {rank} of the tokenizer has one part"));
            };
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            let merged = this.symbol(&format!("{left}{right}"));
            let pair = (this.symbol(left), this.symbol(right));
            this.ranks.entry(pair).or_insert((rank, merged));
        }
        this.tokens = vec![None; this.symbols.len()];
        for (text, symbol) in &this.symbols {
            match vocabulary.ids.get(text) {
                Some(token) => this.tokens[*symbol as usize] = Some(*token),
                None => {
                    let tokens = fallback(vocabulary, text);
                    this.fallbacks.insert(*symbol, tokens);
                }
            }
        }
        Ok(this)
    }

    /// Appends the tokens of a text without special tokens.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), String> {
        for word in self.splitter.words(text)? {
            let word = &text.as_bytes()[word];
            if self.whole_words && self.push_whole(word, tokens) {
                continue;
            }
            for symbol in self.merge(word) {
                self.push(symbol, tokens);
            }
        }
        Ok(())
    }

    fn push_whole(&self, word: &[u8], tokens: &mut Vec<u32>) -> bool {
        let written: String = word.iter().map(|byte| byte_char(*byte)).collect();
        let token = self
            .symbols
            .get(&written)
            .and_then(|symbol| self.tokens[*symbol as usize]);
        tokens.extend(token);
        token.is_some()
    }

    fn push(&self, symbol: Symbol, tokens: &mut Vec<u32>) {
        match self.tokens[symbol as usize] {
            Some(token) => tokens.push(token),
            None => tokens.extend(self.fallbacks.get(&symbol).into_iter().flatten()),
        }
    }

    /// Merges a word's bytes, always the pair of the lowest rank next, and of
    /// equal ranks the leftmost.
    fn merge(&self, word: &[u8]) -> impl Iterator<Item = Symbol> + use<> {
        let count = word.len();
        let mut pieces: Vec<Piece> = word
            .iter()
            .enumerate()
            .map(|(index, byte)| Piece {
                symbol: self.bytes[usize::from(*byte)],
                gone: false,
                before: index.checked_sub(1),
                after: (index + 1 < count).then_some(index + 1),
            })
            .collect();
        // Rank, left piece, right piece, and the symbols that they had.
        let mut pairs = BinaryHeap::new();
        let add = |pairs: &mut BinaryHeap<_>, pieces: &[Piece], left: usize, right: usize| {
            let pair = (pieces[left].symbol, pieces[right].symbol);
            if let Some((rank, merged)) = self.ranks.get(&pair) {
                pairs.push(Reverse((*rank, left, right, pair, *merged)));
            }
        };
        for right in 1..count {
            add(&mut pairs, &pieces, right - 1, right);
        }
        while let Some(Reverse((_, left, right, pair, merged))) = pairs.pop() {
            let outdated = pieces[left].gone
                || pieces[right].gone
                || (pieces[left].symbol, pieces[right].symbol) != pair;
            if outdated {
                continue;
            }
            pieces[left].symbol = merged;
            pieces[right].gone = true;
            let after = pieces[right].after;
            pieces[left].after = after;
            if let Some(after) = after {
                pieces[after].before = Some(left);
                add(&mut pairs, &pieces, left, after);
            }
            if let Some(before) = pieces[left].before {
                add(&mut pairs, &pieces, before, left);
            }
        }
        pieces
            .into_iter()
            .filter(|piece| !piece.gone)
            .map(|piece| piece.symbol)
    }

    /// The number of a text, given on first sight.
    fn symbol(&mut self, text: &str) -> Symbol {
        let next = u32::try_from(self.symbols.len()).unwrap_or(u32::MAX);
        match self.symbols.get(text) {
            Some(symbol) => *symbol,
            None => *self.symbols.entry(text.to_owned()).or_insert(next),
        }
    }
}

/// The character that stands for a byte: printable Latin-1 stands for itself,
/// the others follow from U+0100 on, in order.
pub(super) fn byte_char(byte: u8) -> char {
    let shifted = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=b' ' => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 33,
        0xad => 67,
    };
    char::from_u32(0x100 + shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for.
pub(super) fn char_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// What is written for a text that is no token: those of its characters that
/// are ASCII and tokens. The others are lost, as in llama.cpp. Vocabularies
/// that were trained never come here.
fn fallback(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
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
    fn every_byte_has_its_own_character() {
        for byte in 0..=255 {
            assert_eq!(char_byte(byte_char(byte)), Some(byte));
        }
        assert_eq!(char_byte('\u{144}'), None);
    }
}
