//! File names of batch results, made from a name template (`--name`). No I/O.
//!
//! Names are valid on Linux, macOS and Windows. Different jobs never share a name, even
//! on file systems that ignore case or normalize Unicode: a part that had to be changed,
//! or that could collide with another, carries a digest of the original text.

use unicode_normalization::UnicodeNormalization;

use crate::store::sha256_hex;

/// The maximum length of a part in bytes.
const PART_BYTES: usize = 80;
/// The maximum length of a name without its extension, in bytes. File systems allow
/// 255; the rest is room for `.txt`, `.error.txt` and `.partial`.
const STEM_BYTES: usize = 200;
/// The number of digest digits after a changed part.
const PART_DIGITS: usize = 8;
/// The number of digest digits after a truncated name. It differs from `PART_DIGITS`, so
/// that the two cannot be confused.
const STEM_DIGITS: usize = 16;
/// The character before a digest. It occurs nowhere else in a name.
const DIGEST_MARK: char = '~';
/// The text for a missing input or for missing axes.
const NONE: &str = "none";
/// The endings, before `.txt`, of the files that accompany a result.
const COMPANION_SUFFIXES: [&str; 3] = [".error", ".raw", ".reasoning"];

/// The values of the placeholders for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameParts<'a> {
    /// Label of the prompt.
    pub prompt: &'a str,
    /// Label of the model.
    pub model: &'a str,
    /// Name of the input, if the job has one.
    pub input: Option<&'a str>,
    /// Names and values of the axes, in plan order.
    pub params: &'a [(String, String)],
}

/// A name template such as `{prompt}--{model}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Fixed(String),
    Placeholder(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Prompt,
    Model,
    Input,
    Params,
}

impl Placeholder {
    const ALL: [Self; 4] = [Self::Prompt, Self::Model, Self::Input, Self::Params];

    fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Model => "model",
            Self::Input => "input",
            Self::Params => "params",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|placeholder| placeholder.as_str() == name)
    }

    fn fill(self, parts: &NameParts<'_>) -> String {
        match self {
            Self::Prompt => name_part(parts.prompt, false),
            Self::Model => name_part(parts.model, false),
            // An input named `none` gets a digest, unlike a missing input.
            Self::Input => parts
                .input
                .map_or_else(|| NONE.to_owned(), |input| name_part(input, input == NONE)),
            Self::Params => name_part(&params_text(parts.params), false),
        }
    }
}

impl NameTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// Returns a message for the user if the template is invalid.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("the template is empty; {}", placeholder_list()));
        }
        if text.starts_with(['.', ' ']) || text.ends_with(['.', ' ']) {
            return Err(format!(
                "`{text}` starts or ends with a dot or a space, which is not portable"
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let brace = rest.find(['{', '}']).unwrap_or(rest.len());
            let (fixed, from_brace) = rest.split_at(brace);
            if let Some(c) = fixed.chars().find(|c| is_forbidden(*c)) {
                return Err(forbidden_character(text, c));
            }
            if !fixed.is_empty() {
                pieces.push(Piece::Fixed(fixed.to_owned()));
            }
            if from_brace.is_empty() {
                break;
            }
            let Some(inside) = from_brace.strip_prefix('{') else {
                return Err(format!("`{text}` has a `}}` without a preceding `{{`"));
            };
            let (name, after) = match inside.split_once('}') {
                Some((name, after)) if !name.contains('{') => (name, after),
                _ => return Err(format!("`{text}` has a `{{` without a closing `}}`")),
            };
            let placeholder = Placeholder::parse(name).ok_or_else(|| {
                format!("unknown placeholder `{{{name}}}`; {}", placeholder_list())
            })?;
            pieces.push(Piece::Placeholder(placeholder));
            rest = after;
        }
        let has_placeholder = pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Placeholder(_)));
        if !has_placeholder {
            return Err(format!(
                "`{text}` has no placeholder, so all results would have the same name; {}",
                placeholder_list()
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// Returns the default template: `{prompt}--{model}`, with `--{input}` if
    /// `has_inputs` and `--{params}` if `has_axes`.
    #[must_use]
    pub fn default_for(has_inputs: bool, has_axes: bool) -> Self {
        let mut text = String::new();
        let mut pieces = Vec::new();
        for placeholder in Placeholder::ALL {
            let is_included = match placeholder {
                Placeholder::Prompt | Placeholder::Model => true,
                Placeholder::Input => has_inputs,
                Placeholder::Params => has_axes,
            };
            if !is_included {
                continue;
            }
            if !pieces.is_empty() {
                // Parts contain no double hyphen and do not start or end with a hyphen.
                pieces.push(Piece::Fixed("--".to_owned()));
                text.push_str("--");
            }
            pieces.push(Piece::Placeholder(placeholder));
            text.push_str(&format!("{{{}}}", placeholder.as_str()));
        }
        Self { text, pieces }
    }

    /// Returns the text of the template.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the file name of a job's result, with `.extension`.
    #[must_use]
    pub fn file_name(&self, parts: &NameParts<'_>, extension: &str) -> String {
        let joined: String = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Fixed(text) => text.clone(),
                Piece::Placeholder(placeholder) => placeholder.fill(parts),
            })
            .collect();
        // A combining accent at the start of a part may compose with the text before it.
        let mut stem: String = joined.nfc().collect();
        // Fixed text may complete a reserved name: `co{prompt}`.
        if is_reserved(&stem) {
            stem.insert(0, '_');
        }
        // Without a digest, a result could have the name of another result's error file.
        let folded = collision_key(&stem);
        let is_like_companion = COMPANION_SUFFIXES
            .iter()
            .any(|suffix| folded.ends_with(suffix));
        if stem.len() > STEM_BYTES || is_like_companion {
            let digest = digest(&stem, STEM_DIGITS);
            let room = STEM_BYTES - STEM_DIGITS - DIGEST_MARK.len_utf8();
            stem.truncate(stem.floor_char_boundary(room));
            stem.push(DIGEST_MARK);
            stem.push_str(&digest);
        }
        format!("{stem}.{extension}")
    }
}

/// Returns a key for comparing names: two names with the same key may be the same file on
/// some file system.
///
/// Lower case alone is not enough, since some file systems fold `ß` to `ss` and `ſ` to
/// `s`; converting to upper case in between does that. Characters are converted one by
/// one, since the lower case of a sigma depends on its neighbours.
#[must_use]
pub fn collision_key(name: &str) -> String {
    name.nfd()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

fn placeholder_list() -> String {
    let names = Placeholder::ALL.map(|placeholder| format!("{{{}}}", placeholder.as_str()));
    format!("the placeholders are {}", names.join(", "))
}

fn forbidden_character(text: &str, c: char) -> String {
    match c {
        '/' | '\\' => format!("`{text}` has a `{c}`; a template names a file, not a folder"),
        DIGEST_MARK => format!("`{text}` has a `{DIGEST_MARK}`, which is reserved for digests"),
        // With the code point, since the character may be invisible.
        _ => format!(
            "`{text}` has the character {c:?} (U+{:04X}), which is not portable in file names",
            u32::from(c)
        ),
    }
}

/// Returns a part of a name. `with_digest` adds the digest even if the text is unchanged.
fn name_part(raw: &str, with_digest: bool) -> String {
    let mut body = sanitize(raw);
    if is_reserved(&body) {
        body.insert(0, '_');
    }
    let is_unchanged = body == raw && collision_key(raw) == raw && body.len() <= PART_BYTES;
    if is_unchanged && !with_digest {
        return body;
    }
    let room = PART_BYTES - PART_DIGITS - DIGEST_MARK.len_utf8();
    body.truncate(body.floor_char_boundary(room));
    body.push(DIGEST_MARK);
    body.push_str(&digest(raw, PART_DIGITS));
    body
}

/// Replaces everything that a part must not contain by `_`, including the second of two
/// hyphens, which separate parts. The result is never empty.
fn sanitize(raw: &str) -> String {
    let mut chars: Vec<char> = raw
        .nfc()
        .map(|c| if is_forbidden(c) { '_' } else { c })
        .collect();
    let is_forbidden_at_ends = |c: &&mut char| matches!(**c, ' ' | '.' | '-');
    chars
        .iter_mut()
        .take_while(is_forbidden_at_ends)
        .for_each(|c| *c = '_');
    chars
        .iter_mut()
        .rev()
        .take_while(is_forbidden_at_ends)
        .for_each(|c| *c = '_');
    let mut text = String::new();
    for c in chars {
        let is_second_hyphen = c == '-' && text.ends_with('-');
        text.push(if is_second_hyphen { '_' } else { c });
    }
    if text.is_empty() {
        text.push('_');
    }
    text
}

/// Returns the axes as one text, with separators in names and values escaped. Escapes
/// have lower-case digits, since capitals would add a digest.
fn params_text(params: &[(String, String)]) -> String {
    if params.is_empty() {
        // Unambiguous: every other text contains `=`.
        return NONE.to_owned();
    }
    let escaped = |text: &str| {
        text.replace('%', "%25")
            .replace(',', "%2c")
            .replace('=', "%3d")
    };
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    pairs.join(",")
}

/// Returns whether names must not contain the character: it is the digest mark,
/// invisible, or not allowed on some system.
fn is_forbidden(c: char) -> bool {
    let is_reserved = matches!(
        c,
        '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | DIGEST_MARK
    );
    let is_whitespace = c.is_whitespace() && c != ' ';
    is_reserved || is_whitespace || c.is_control() || is_invisible(c)
}

/// Returns whether the character is a direction mark, joiner, filler or the like, or a
/// noncharacter. Some file systems ignore these when comparing names.
fn is_invisible(c: char) -> bool {
    matches!(
        u32::from(c),
        0xAD | 0x34F
            | 0x61C
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x2028..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xFDD0..=0xFDEF
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3
            | 0x1D173..=0x1D17A
            | 0xE0000..=0xE0FFF
    ) || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Returns whether the name is that of a Windows device. Anything after the first dot is
/// ignored, as Windows does.
fn is_reserved(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name).trim_end();
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(|device| name.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut chars = name.chars();
    let number = chars.next_back();
    let port = chars.as_str();
    (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
        && number.is_some_and(|c| matches!(c, '0'..='9' | '¹' | '²' | '³'))
}

fn digest(text: &str, digits: usize) -> String {
    let mut hex = sha256_hex(text.as_bytes());
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Separators, marks, and characters that fold or compose.
    const ALPHABET: [&str; 16] = [
        "-", "~", ".", "a", "A", "/", ",", "=", "\u{e9}", "e\u{301}", "ß", "İ", "\u{301}", "_",
        "s", " ",
    ];

    fn check(template: &str, parts: NameParts<'_>, expected: &str) {
        let name = NameTemplate::parse(template)
            .unwrap()
            .file_name(&parts, "txt");
        // Digests are replaced by their length.
        let mut pieces = name.split(DIGEST_MARK);
        let mut shown = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let rest = piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            shown.push_str(&format!("~{}{rest}", piece.len() - rest.len()));
        }
        assert_eq!(shown, expected, "{template} {parts:?}");
    }

    fn name_parts<'a>(prompt: &'a str, model: &'a str) -> NameParts<'a> {
        NameParts {
            prompt,
            model,
            input: None,
            params: &[],
        }
    }

    fn pairs(from: &[(&str, &str)]) -> Vec<(String, String)> {
        from.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn plain_names_are_kept_and_changed_ones_get_a_digest() {
        let template = "{prompt}--{model}";
        let long = "x".repeat(90);
        let accents = "é".repeat(60);
        for (prompt, model, expected) in [
            ("think,aps", "qwen3-4b", "think,aps--qwen3-4b.txt"),
            ("a+b (c)", "m=1.5", "a+b (c)--m=1.5.txt"),
            ("grün", "日本", "grün--日本.txt"),
            ("a", "google/gemma-3n-e4b", "a--google_gemma-3n-e4b~8.txt"),
            ("Think", "b", "Think~8--b.txt"),
            ("ǅ", "b", "ǅ~8--b.txt"),
            ("gru\u{308}n", "b", "grün~8--b.txt"),
            ("groß", "ſ", "groß~8--ſ~8.txt"),
            ("CON", "nul.txt", "_CON~8--_nul.txt~8.txt"),
            ("com¹ .x", "LPT0", "_com¹ .x~8--_LPT0~8.txt"),
            ("conin$", "com10", "_conin$~8--com10.txt"),
            ("con-x", "comx", "con-x--comx.txt"),
            ("", "..", "_~8--__~8.txt"),
            ("a.", ".b", "a_~8--_b~8.txt"),
            (" -a. -", "b", "__a___~8--b.txt"),
            ("a----b", "b - c", "a-_-_b~8--b - c.txt"),
            ("a~12345678", "b", "a_12345678~8--b.txt"),
            ("a\u{200b}b", "a\tb\u{85}\u{a0}", "a_b~8--a_b__~8.txt"),
            ("a\u{202e}b", "❤\u{fe0f}", "a_b~8--❤_~8.txt"),
            ("a.error", "b.errors", "a.error--b.errors.txt"),
            ("a", "b.error", "a--b.error~16.txt"),
            ("a", "b.ERROR", "a--b.ERROR~8.txt"),
            ("{model}", "{", "{model}--{.txt"),
            (&long, "b", &format!("{}~8--b.txt", &long[..71])),
            (&accents, "b", &format!("{}~8--b.txt", "é".repeat(35))),
            (
                &long[..80],
                &long[..81],
                &format!("{}--{}~8.txt", &long[..80], &long[..71]),
            ),
        ] {
            check(template, name_parts(prompt, model), expected);
        }
    }

    #[test]
    fn digests_are_of_the_original_text() {
        let name = NameTemplate::default_for(false, false)
            .file_name(&name_parts("a", "google/gemma-3n-e4b"), "md");
        let hex = sha256_hex(b"google/gemma-3n-e4b");
        assert_eq!(name, format!("a--google_gemma-3n-e4b~{}.md", &hex[..8]));
    }

    #[test]
    fn inputs_and_axes_are_part_of_the_name() {
        for (input, params, expected) in [
            (None, vec![], "p--m--none--none.txt"),
            (Some("none"), vec![], "p--m--none~8--none.txt"),
            (
                Some("in.txt"),
                vec![("temperature", "0.7"), ("seed", "1")],
                "p--m--in.txt--temperature=0.7,seed=1.txt",
            ),
            (
                Some("docs/in.txt"),
                vec![("a", "1,b=2")],
                "p--m--docs_in.txt~8--a=1%2cb%3d2.txt",
            ),
            (Some("x"), vec![("", "")], "p--m--x--=.txt"),
            (Some("x"), vec![("a", "5%")], "p--m--x--a=5%25.txt"),
        ] {
            let params = pairs(&params);
            let parts = NameParts {
                input,
                params: &params,
                ..name_parts("p", "m")
            };
            check("{prompt}--{model}--{input}--{params}", parts, expected);
        }
    }

    #[test]
    fn custom_templates_are_safe() {
        let long = "x".repeat(79);
        let truncated = format!("{long}--{long}--{}~16.txt", &long[..21]);
        for (template, parts, expected) in [
            ("{model}", name_parts("p", "m"), "m.txt"),
            ("{model}.{model}", name_parts("p", "m"), "m.m.txt"),
            ("CO{model}", name_parts("p", "n"), "_COn.txt"),
            (
                "{prompt}.{model}",
                name_parts("p", "error"),
                "p.error~16.txt",
            ),
            ("a{model}", name_parts("p", "\u{301}x"), "áx.txt"),
            (
                "{model}--{model}--{model}",
                name_parts("p", &long),
                &truncated,
            ),
        ] {
            check(template, parts, expected);
        }
    }

    #[test]
    fn invalid_templates_have_an_error_message() {
        for (template, expected) in [
            (
                "",
                "the template is empty; the placeholders are {prompt}, {model},",
            ),
            (
                "{what}",
                "unknown placeholder `{what}`; the placeholders are {prompt},",
            ),
            ("{}", "unknown placeholder `{}`"),
            ("{Model}", "unknown placeholder `{Model}`"),
            ("{model", "`{model` has a `{` without a closing `}`"),
            ("{{model}", "has a `{` without a closing `}`"),
            ("{mo{del}}", "has a `{` without a closing `}`"),
            ("{model}}", "has a `}` without a preceding `{`"),
            ("}{model}", "has a `}` without a preceding `{`"),
            ("result", "`result` has no placeholder"),
            ("out/{model}", "`out/{model}` has a `/`"),
            ("out\\{model}", "has a `\\`"),
            ("{model}:{prompt}", "has the character ':' (U+003A)"),
            (
                "{model}\u{202e}",
                "has the character '\\u{202e}' (U+202E), which",
            ),
            ("{model}~", "has a `~`, which is reserved for digests"),
            (".{model}", "starts or ends with a dot or a space"),
            ("{model}.", "starts or ends with a dot or a space"),
            (" {model}", "starts or ends with a dot or a space"),
        ] {
            let error = NameTemplate::parse(template).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn default_templates_have_the_needed_placeholders() {
        for (has_inputs, has_axes, expected) in [
            (false, false, "{prompt}--{model}"),
            (true, false, "{prompt}--{model}--{input}"),
            (false, true, "{prompt}--{model}--{params}"),
            (true, true, "{prompt}--{model}--{input}--{params}"),
        ] {
            let template = NameTemplate::default_for(has_inputs, has_axes);
            assert_eq!(template.as_str(), expected);
            assert_eq!(NameTemplate::parse(expected), Ok(template.clone()));
            assert_eq!(template.as_str().contains("{input}"), has_inputs);
            assert_eq!(template.as_str().contains("{params}"), has_axes);
            assert!(template.as_str().starts_with("{prompt}--{model}"));
        }
    }

    #[test]
    fn collision_keys_are_equal_where_some_file_system_sees_one_file() {
        for (a, b) in [
            ("A", "a"),
            ("\u{e9}", "e\u{301}"),
            ("É", "e\u{301}"),
            ("ß", "SS"),
            ("ẞ", "ß"),
            ("ſ", "S"),
            ("\u{212a}", "k"),
            ("ΟΔΟΣ", "οδος"),
            ("İ", "i\u{307}"),
        ] {
            assert_eq!(collision_key(a), collision_key(b), "{a} {b}");
        }
        for (a, b) in [("a", "b"), ("e", "é"), ("ı", "j"), ("a.", "a")] {
            assert_ne!(collision_key(a), collision_key(b), "{a} {b}");
        }
    }

    /// Returns all texts of at most `length_max` letters.
    fn all_texts(letters: &[&str], length_max: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut start = 0;
        for _ in 0..length_max {
            let end = texts.len();
            for index in start..end {
                for letter in letters {
                    texts.push(format!("{}{letter}", texts[index]));
                }
            }
            start = end;
        }
        // Letters of several characters produce duplicates.
        texts.sort();
        texts.dedup();
        texts
    }

    #[test]
    fn no_two_short_jobs_share_a_name() {
        let template = NameTemplate::default_for(false, false);
        for (letters, length_max) in [(&ALPHABET[..], 2), (&["-", "a", "~"], 4), (&["-", "a"], 6)] {
            let texts = all_texts(letters, length_max);
            let mut seen = BTreeMap::new();
            for prompt in &texts {
                for model in &texts {
                    let name =
                        collision_key(&template.file_name(&name_parts(prompt, model), "txt"));
                    if let Some(other) = seen.insert(name.clone(), (prompt, model)) {
                        panic!("{name}: {prompt:?} {model:?} and {other:?}");
                    }
                }
            }
        }
    }

    /// Returns the problem of an unsafe name. Written independently of the code that makes
    /// names.
    fn problem(name: &str) -> Option<&'static str> {
        let Some(stem) = name.strip_suffix(".txt") else {
            return Some("extension");
        };
        let device = stem.split('.').next()?.trim_end().to_uppercase();
        let devices = "CON PRN AUX NUL CONIN$ CONOUT$ COM0 COM1 COM9 COM¹ LPT0 LPT5 LPT³";
        if stem.is_empty() || stem.starts_with(['.', '-', ' ']) || stem.ends_with(['.', ' ']) {
            Some("ends")
        } else if stem.len() > 200 || format!("{name}.error.txt.partial").len() > 255 {
            Some("length")
        } else if name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*'])
            || name.contains(|c: char| c.is_control() || (c.is_whitespace() && c != ' '))
            || name.contains(|c: char| ('\u{2028}'..='\u{202e}').contains(&c))
        {
            Some("character")
        } else if devices.split(' ').any(|reserved| reserved == device) {
            Some("device")
        } else if name.nfc().ne(name.chars()) {
            Some("not composed")
        } else if stem.to_lowercase().ends_with(".error") {
            Some("like an error file")
        } else {
            None
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let words = ["con", "COM1", "none", "--", "error", "ǅ", "x~12345678"];
        let piece = select(ALPHABET.into_iter().chain(words).collect::<Vec<_>>());
        prop_oneof![
            8 => vec(piece, 0..9).prop_map(|pieces| pieces.concat()),
            // Arbitrary characters, and texts of about the maximum length.
            1 => vec(any::<char>(), 0..300).prop_map(String::from_iter),
            1 => vec(select(ALPHABET.to_vec()), 60..100).prop_map(|pieces| pieces.concat()),
        ]
    }

    type Job = (String, String, Option<String>, Vec<(String, String)>);

    fn job() -> impl Strategy<Value = Job> {
        let params = vec((text(), text()), 0..3);
        (text(), text(), proptest::option::of(text()), params)
    }

    fn name_of(job: &Job, template: &NameTemplate) -> String {
        let parts = NameParts {
            prompt: &job.0,
            model: &job.1,
            input: job.2.as_deref(),
            params: &job.3,
        };
        template.file_name(&parts, "txt")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn different_jobs_have_different_names(a in job(), b in job()) {
            let template = NameTemplate::default_for(true, true);
            // Includes jobs that differ in one part only.
            let jobs = BTreeSet::from([
                (b.0.clone(), a.1.clone(), a.2.clone(), a.3.clone()),
                (a.0.clone(), b.1.clone(), a.2.clone(), a.3.clone()),
                (a.0.clone(), a.1.clone(), b.2.clone(), a.3.clone()),
                (a.0.clone(), a.1.clone(), a.2.clone(), b.3.clone()),
                a,
                b,
            ]);
            let names: BTreeSet<String> =
                jobs.iter().map(|job| collision_key(&name_of(job, &template))).collect();
            prop_assert_eq!(names.len(), jobs.len(), "{:?}", jobs);
        }

        #[test]
        fn part_boundaries_change_the_name(text in vec(select(ALPHABET.to_vec()), 0..12)) {
            let template = NameTemplate::default_for(true, false);
            let mut jobs = BTreeSet::new();
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    for input in [None, Some(text[second..].concat())] {
                        let prompt = text[..first].concat();
                        let model = text[first..second].concat();
                        // Also without the separator between them.
                        let shortened = text[(first + 1).min(second)..second].concat();
                        jobs.insert((prompt.clone(), model, input.clone(), Vec::new()));
                        jobs.insert((prompt, shortened, input, Vec::new()));
                    }
                }
            }
            let names: BTreeSet<String> =
                jobs.iter().map(|job| collision_key(&name_of(job, &template))).collect();
            prop_assert_eq!(names.len(), jobs.len());
        }

        #[test]
        fn a_part_used_as_a_text_gets_another_name(raw in text()) {
            let once = name_part(&raw, false);
            let twice = name_part(&once, false);
            prop_assert_eq!(once == raw, collision_key(&once) == collision_key(&twice), "{:?} {}", raw, twice);
        }

        #[test]
        fn different_axes_have_different_texts(a in vec((text(), text()), 0..3), b in vec((text(), text()), 0..3)) {
            prop_assert_eq!(a == b, params_text(&a) == params_text(&b));
        }

        #[test]
        fn every_name_is_safe(job in job()) {
            let mut templates = vec![NameTemplate::default_for(false, false), NameTemplate::default_for(true, true)];
            for text in ["{model}", "{params}{input}", "C{prompt}{model}", "{input}.{model}"] {
                templates.push(NameTemplate::parse(text).unwrap());
            }
            for template in templates {
                let name = name_of(&job, &template);
                prop_assert_eq!(problem(&name), None, "{}", name);
            }
        }
    }
}
