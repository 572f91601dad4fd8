//! The grammar of JSON, one character at a time (RFC 8259).
//!
//! It remembers the open brackets and nothing else, so that an answer of any
//! length is checked in the memory of its depth.

/// The most brackets that may be open. With indents, depth costs the square of
/// its length, and no reader of JSON goes this deep.
const DEPTH_MAX: usize = 512;

/// What a character is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It cannot stand here; this was expected.
    Wrong(&'static str),
    /// A blank between tokens.
    Blank,
    /// A blank before or after the whole value.
    Outside,
    /// An opening bracket, which may begin an element.
    Open,
    /// A closing bracket.
    Close { empty: bool },
    /// The first character of a key or of any other value.
    Begin,
    /// A later character of a string, number or word.
    Within,
    /// Between elements.
    Comma,
    /// Between key and value.
    Colon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value; after an opening square bracket, a closing one will do.
    Value { or_close: bool },
    /// Before a key; after an opening brace, a closing one will do.
    Key { or_close: bool },
    /// After a key.
    Colon,
    /// After a value inside brackets.
    After,
    /// In a string; it is a key if `key`.
    Text { key: bool, escape: Escape },
    /// In a number.
    Number(Number),
    /// In `true`, `false` or `null`; what is left of it.
    Word(&'static str),
    /// After the last bracket: nothing further is looked at.
    Closed,
    /// After a value at the top that has no brackets: nothing but blanks.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// So many hexadecimal digits are left.
    Hex(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// Where in a JSON text we are.
#[derive(Debug)]
pub(super) struct Grammar {
    state: State,
    /// The open brackets; `true` is an object.
    open: Vec<bool>,
}

impl Default for Grammar {
    fn default() -> Self {
        Self {
            state: State::Value { or_close: false },
            open: Vec::new(),
        }
    }
}

impl Grammar {
    /// How many brackets are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The last bracket has been seen.
    pub(super) fn closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the text may end here; if not, what should follow.
    pub(super) fn complete(&self) -> Result<(), &'static str> {
        match self.state {
            State::Closed | State::Ended => Ok(()),
            State::Number(number) if self.open.is_empty() && number.may_end() => Ok(()),
            State::Number(number) if !number.may_end() => Err("a digit"),
            State::Text { .. } => Err("the end of the string"),
            State::Word(_) => Err("the rest of a word"),
            State::Value { .. } => Err("a value"),
            State::Key { .. } => Err("a key"),
            State::Colon => Err("`:`"),
            State::After | State::Number(_) => Err(self.expected_after()),
        }
    }

    /// Takes the next character.
    pub(super) fn take(&mut self, c: char) -> Step {
        if let State::Number(number) = self.state {
            if let Some(next) = number.next(c) {
                self.state = State::Number(next);
                return Step::Within;
            }
            if !number.may_end() {
                return Step::Wrong("a digit");
            }
            self.value_ends(State::Ended);
        }
        match self.state {
            State::Text { key, escape } => self.take_text(c, key, escape),
            State::Word(rest) => match rest.strip_prefix(c) {
                Some("") => self.scalar_ends(),
                Some(rest) => self.go(State::Word(rest), Step::Within),
                None => Step::Wrong("true, false or null"),
            },
            _ if matches!(c, ' ' | '\t' | '\n' | '\r') => match self.open.is_empty() {
                true => Step::Outside,
                false => Step::Blank,
            },
            State::Value { or_close } => self.take_value(c, or_close),
            State::Key { or_close } => match c {
                '"' => self.go(text(true), Step::Begin),
                '}' if or_close => self.close(true),
                _ if or_close => Step::Wrong("a key or `}`"),
                _ => Step::Wrong("a key"),
            },
            State::Colon if c == ':' => self.go(State::Value { or_close: false }, Step::Colon),
            State::Colon => Step::Wrong("`:`"),
            State::After => self.take_after(c),
            State::Number(_) | State::Closed | State::Ended => Step::Wrong("the end"),
        }
    }

    fn take_text(&mut self, c: char, key: bool, escape: Escape) -> Step {
        let next = match (escape, c) {
            (Escape::None, '"') if key => return self.go(State::Colon, Step::Within),
            (Escape::None, '"') => return self.scalar_ends(),
            (Escape::None, '\\') => Escape::Begun,
            (Escape::None, c) if c < ' ' => return Step::Wrong("an escape such as `\\n`"),
            (Escape::None, _) => Escape::None,
            (Escape::Begun, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Escape::None,
            (Escape::Begun, 'u') => Escape::Hex(4),
            (Escape::Begun, _) => return Step::Wrong("one of `\"\\/bfnrtu`"),
            (Escape::Hex(1), c) if c.is_ascii_hexdigit() => Escape::None,
            (Escape::Hex(left), c) if c.is_ascii_hexdigit() => Escape::Hex(left - 1),
            (Escape::Hex(_), _) => return Step::Wrong("a hexadecimal digit"),
        };
        self.go(State::Text { key, escape: next }, Step::Within)
    }

    fn take_value(&mut self, c: char, or_close: bool) -> Step {
        match c {
            '{' | '[' if self.open.len() == DEPTH_MAX => Step::Wrong("a less deep value"),
            '{' => {
                self.open.push(true);
                self.go(State::Key { or_close: true }, Step::Open)
            }
            '[' => {
                self.open.push(false);
                self.go(State::Value { or_close: true }, Step::Open)
            }
            ']' if or_close => self.close(true),
            '"' => self.go(text(false), Step::Begin),
            't' => self.go(State::Word("rue"), Step::Begin),
            'f' => self.go(State::Word("alse"), Step::Begin),
            'n' => self.go(State::Word("ull"), Step::Begin),
            '-' => self.go(State::Number(Number::Minus), Step::Begin),
            '0' => self.go(State::Number(Number::Zero), Step::Begin),
            '1'..='9' => self.go(State::Number(Number::Integer), Step::Begin),
            _ if or_close => Step::Wrong("a value or `]`"),
            _ => Step::Wrong("a value"),
        }
    }

    fn take_after(&mut self, c: char) -> Step {
        match (self.open.last(), c) {
            (Some(true), ',') => self.go(State::Key { or_close: false }, Step::Comma),
            (Some(false), ',') => self.go(State::Value { or_close: false }, Step::Comma),
            (Some(true), '}') | (Some(false), ']') => self.close(false),
            _ => Step::Wrong(self.expected_after()),
        }
    }

    fn expected_after(&self) -> &'static str {
        match self.open.last() {
            Some(true) => "`,` or `}`",
            _ => "`,` or `]`",
        }
    }

    fn close(&mut self, empty: bool) -> Step {
        self.open.pop();
        self.value_ends(State::Closed);
        Step::Close { empty }
    }

    fn scalar_ends(&mut self) -> Step {
        self.value_ends(State::Ended);
        Step::Within
    }

    fn value_ends(&mut self, at_top: State) {
        self.state = match self.open.is_empty() {
            true => at_top,
            false => State::After,
        };
    }

    fn go(&mut self, state: State, step: Step) -> Step {
        self.state = state;
        step
    }
}

fn text(key: bool) -> State {
    State::Text {
        key,
        escape: Escape::None,
    }
}

impl Number {
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

    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits
        )
    }
}
