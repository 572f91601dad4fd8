//! The grammar of JSON (RFC 8259) as a state machine that reads one character at a time.
//!
//! It stores only the open brackets, so that the memory use depends on the depth of the
//! JSON and not on its length.

/// The maximum number of open brackets. Indented output grows with the square of the depth,
/// and JSON parsers commonly have lower limits.
const MAX_DEPTH: usize = 512;

/// The role of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CharRole {
    /// The character is invalid here. Contains what was expected.
    Unexpected(&'static str),
    /// Whitespace between tokens.
    Whitespace,
    /// Whitespace before or after the top-level value.
    OuterWhitespace,
    /// An opening bracket.
    Open,
    /// A closing bracket.
    Close { empty: bool },
    /// The first character of a key or of a scalar value.
    Begin,
    /// A later character of a string, number or literal.
    Continue,
    /// A comma between elements.
    Comma,
    /// A colon between key and value.
    Colon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrammarState {
    /// Before a value. `or_close` is true after `[`, where `]` is also valid.
    Value { or_close: bool },
    /// Before a key. `or_close` is true after `{`, where `}` is also valid.
    Key { or_close: bool },
    /// After a key.
    Colon,
    /// After a value inside brackets.
    After,
    /// In a string. `key` is true if the string is a key.
    Text { key: bool, escape: EscapeState },
    /// In a number.
    Number(NumberState),
    /// In `true`, `false` or `null`. Contains the remaining characters.
    Word(&'static str),
    /// After the last bracket. No further characters are read.
    Closed,
    /// After a top-level scalar. Only whitespace may follow.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EscapeState {
    None,
    Begun,
    /// Inside `\u`. Contains the number of remaining hexadecimal digits.
    Hex(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberState {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// The position in a JSON text.
#[derive(Debug)]
pub(super) struct Grammar {
    state: GrammarState,
    /// The open brackets: true for an object, false for an array.
    open: Vec<bool>,
}

impl Default for Grammar {
    fn default() -> Self {
        Self {
            state: GrammarState::Value { or_close: false },
            open: Vec::new(),
        }
    }
}

impl Grammar {
    /// Returns the number of open brackets.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Returns true after the last bracket.
    pub(super) fn is_closed(&self) -> bool {
        self.state == GrammarState::Closed
    }

    /// Checks that the text may end here.
    ///
    /// # Errors
    /// Returns a description of what is missing.
    pub(super) fn check_complete(&self) -> Result<(), &'static str> {
        match self.state {
            GrammarState::Closed | GrammarState::Ended => Ok(()),
            GrammarState::Number(number) if self.open.is_empty() && number.can_end() => Ok(()),
            GrammarState::Number(number) if !number.can_end() => Err("a digit"),
            GrammarState::Text { .. } => Err("the end of the string"),
            GrammarState::Word(_) => Err("the rest of `true`, `false` or `null`"),
            GrammarState::Value { .. } => Err("a value"),
            GrammarState::Key { .. } => Err("a key"),
            GrammarState::Colon => Err("`:`"),
            GrammarState::After | GrammarState::Number(_) => Err(self.expected_after()),
        }
    }

    /// Processes the next character.
    pub(super) fn push(&mut self, c: char) -> CharRole {
        if let GrammarState::Number(number) = self.state {
            if let Some(next) = number.next(c) {
                self.state = GrammarState::Number(next);
                return CharRole::Continue;
            }
            if !number.can_end() {
                return CharRole::Unexpected("a digit");
            }
            self.end_value(GrammarState::Ended);
        }
        match self.state {
            GrammarState::Text { key, escape } => self.push_string_char(c, key, escape),
            GrammarState::Word(rest) => match rest.strip_prefix(c) {
                Some("") => self.end_scalar(),
                Some(rest) => self.transition(GrammarState::Word(rest), CharRole::Continue),
                None => CharRole::Unexpected("`true`, `false` or `null`"),
            },
            _ if matches!(c, ' ' | '\t' | '\n' | '\r') => match self.open.is_empty() {
                true => CharRole::OuterWhitespace,
                false => CharRole::Whitespace,
            },
            GrammarState::Value { or_close } => self.push_value_start(c, or_close),
            GrammarState::Key { or_close } => match c {
                '"' => self.transition(string_state(true), CharRole::Begin),
                '}' if or_close => self.close(true),
                _ if or_close => CharRole::Unexpected("a key or `}`"),
                _ => CharRole::Unexpected("a key"),
            },
            GrammarState::Colon if c == ':' => {
                self.transition(GrammarState::Value { or_close: false }, CharRole::Colon)
            }
            GrammarState::Colon => CharRole::Unexpected("`:`"),
            GrammarState::After => self.push_after_value(c),
            GrammarState::Number(_) | GrammarState::Closed | GrammarState::Ended => {
                CharRole::Unexpected("the end of the text")
            }
        }
    }

    fn push_string_char(&mut self, c: char, key: bool, escape: EscapeState) -> CharRole {
        let next = match (escape, c) {
            (EscapeState::None, '"') if key => {
                return self.transition(GrammarState::Colon, CharRole::Continue);
            }
            (EscapeState::None, '"') => return self.end_scalar(),
            (EscapeState::None, '\\') => EscapeState::Begun,
            (EscapeState::None, c) if c < ' ' => {
                return CharRole::Unexpected("an escape such as `\\n`");
            }
            (EscapeState::None, _) => EscapeState::None,
            (EscapeState::Begun, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {
                EscapeState::None
            }
            (EscapeState::Begun, 'u') => EscapeState::Hex(4),
            (EscapeState::Begun, _) => return CharRole::Unexpected("one of `\"\\/bfnrtu`"),
            (EscapeState::Hex(1), c) if c.is_ascii_hexdigit() => EscapeState::None,
            (EscapeState::Hex(left), c) if c.is_ascii_hexdigit() => EscapeState::Hex(left - 1),
            (EscapeState::Hex(_), _) => return CharRole::Unexpected("a hexadecimal digit"),
        };
        self.transition(GrammarState::Text { key, escape: next }, CharRole::Continue)
    }

    fn push_value_start(&mut self, c: char, or_close: bool) -> CharRole {
        match c {
            '{' | '[' if self.open.len() == MAX_DEPTH => {
                CharRole::Unexpected("at most 512 levels of brackets")
            }
            '{' => {
                self.open.push(true);
                self.transition(GrammarState::Key { or_close: true }, CharRole::Open)
            }
            '[' => {
                self.open.push(false);
                self.transition(GrammarState::Value { or_close: true }, CharRole::Open)
            }
            ']' if or_close => self.close(true),
            '"' => self.transition(string_state(false), CharRole::Begin),
            't' => self.transition(GrammarState::Word("rue"), CharRole::Begin),
            'f' => self.transition(GrammarState::Word("alse"), CharRole::Begin),
            'n' => self.transition(GrammarState::Word("ull"), CharRole::Begin),
            '-' => self.transition(GrammarState::Number(NumberState::Minus), CharRole::Begin),
            '0' => self.transition(GrammarState::Number(NumberState::Zero), CharRole::Begin),
            '1'..='9' => {
                self.transition(GrammarState::Number(NumberState::Integer), CharRole::Begin)
            }
            _ if or_close => CharRole::Unexpected("a value or `]`"),
            _ => CharRole::Unexpected("a value"),
        }
    }

    fn push_after_value(&mut self, c: char) -> CharRole {
        match (self.open.last(), c) {
            (Some(true), ',') => {
                self.transition(GrammarState::Key { or_close: false }, CharRole::Comma)
            }
            (Some(false), ',') => {
                self.transition(GrammarState::Value { or_close: false }, CharRole::Comma)
            }
            (Some(true), '}') | (Some(false), ']') => self.close(false),
            _ => CharRole::Unexpected(self.expected_after()),
        }
    }

    fn expected_after(&self) -> &'static str {
        match self.open.last() {
            Some(true) => "`,` or `}`",
            _ => "`,` or `]`",
        }
    }

    fn close(&mut self, empty: bool) -> CharRole {
        self.open.pop();
        self.end_value(GrammarState::Closed);
        CharRole::Close { empty }
    }

    fn end_scalar(&mut self) -> CharRole {
        self.end_value(GrammarState::Ended);
        CharRole::Continue
    }

    fn end_value(&mut self, at_top: GrammarState) {
        self.state = match self.open.is_empty() {
            true => at_top,
            false => GrammarState::After,
        };
    }

    fn transition(&mut self, state: GrammarState, step: CharRole) -> CharRole {
        self.state = state;
        step
    }
}

fn string_state(key: bool) -> GrammarState {
    GrammarState::Text {
        key,
        escape: EscapeState::None,
    }
}

impl NumberState {
    fn next(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus, '1'..='9') => Self::Integer,
            (Self::Integer, '0'..='9') => Self::Integer,
            (Self::Zero | Self::Integer, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, '0'..='9') => {
                Self::ExponentDigits
            }
            _ => return None,
        })
    }

    fn can_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits
        )
    }
}
