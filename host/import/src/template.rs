//! A text with parameters, independent of the template language, and its form in a prompt
//! file.

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Plain text. Braces in it have no meaning.
    Text(String),
    /// The value of a parameter.
    Param(String),
}

/// A text with parameters. Neighboring texts are always joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Returns a template of a single parameter.
    pub(crate) fn param(name: &str) -> Self {
        let mut template = Self::default();
        template.push_param(name);
        template
    }

    pub(crate) fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    pub(crate) fn push_param(&mut self, name: &str) {
        self.pieces.push(Piece::Param(name.to_owned()));
    }

    pub(crate) fn push(&mut self, piece: &Piece) {
        match piece {
            Piece::Text(text) => self.push_text(text),
            Piece::Param(name) => self.push_param(name),
        }
    }

    pub(crate) fn append(&mut self, other: &Self) {
        other.pieces.iter().for_each(|piece| self.push(piece));
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the names of the parameters, in order and with repetitions.
    pub(crate) fn params(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Param(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Returns true if there are neither parameters nor characters other than whitespace.
    pub(crate) fn is_blank(&self) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Text(text) => text.trim().is_empty(),
            Piece::Param(_) => false,
        })
    }

    /// Removes the characters that `matches` accepts at both ends.
    pub(crate) fn trim_matches(&mut self, matches: fn(char) -> bool) {
        if let Some(Piece::Text(text)) = self.pieces.first_mut() {
            *text = text.trim_start_matches(matches).to_owned();
        }
        if let Some(Piece::Text(text)) = self.pieces.last_mut() {
            text.truncate(text.trim_end_matches(matches).len());
        }
        self.pieces
            .retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    }

    /// Renames a parameter.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        for piece in &mut self.pieces {
            if let Piece::Param(name) = piece
                && name == from
            {
                to.clone_into(name);
            }
        }
    }

    /// Returns true if the plain text contains braces that a prompt file reads as a
    /// parameter.
    pub(crate) fn has_literal_braces(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Text(text) => placeholder(text).is_some(),
            Piece::Param(_) => false,
        })
    }

    /// Returns the text as in a prompt file that sets `raw`. There must be no parameters.
    pub(crate) fn raw_text(&self) -> String {
        self.prompt_text(None)
    }

    /// Returns the text as in a prompt file. In front of the literal braces that would be read
    /// as a parameter, it uses the parameter `open`, whose value must be `{{`.
    pub(crate) fn prompt_text(&self, open: Option<&str>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match (piece, open) {
                (Piece::Param(name), _) => out.push_str(&format!("{{{{{name}}}}}")),
                (Piece::Text(text), None) => out.push_str(text),
                (Piece::Text(text), Some(open)) => escape_braces(&mut out, text, open),
            }
        }
        out
    }
}

fn escape_braces(out: &mut String, text: &str, open: &str) {
    let mut rest = text;
    while let Some(found) = placeholder(rest) {
        let (before, after) = rest.split_at(found.start);
        let (inner, after) = after.split_at(found.end - found.start);
        out.push_str(before);
        out.push_str(&format!("{{{{{open}}}}}"));
        out.push_str(inner.get(2..).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
}

/// Returns the byte range of the first `{{name}}` with its braces, as the standard pack finds
/// it: the name is not blank and contains no braces. Takes linear time.
pub(crate) fn placeholder(text: &str) -> Option<std::ops::Range<usize>> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("{{")?;
        let inside = start + 2;
        let stop = inside + text.get(inside..)?.find(['{', '}'])?;
        let name = text.get(inside..stop)?;
        if text.get(stop..)?.starts_with("}}") && !name.trim().is_empty() {
            return Some(start..stop + 2);
        }
        from = if stop == inside { start + 1 } else { stop };
    }
}
