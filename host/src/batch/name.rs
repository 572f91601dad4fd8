//! What the result files of a batch are called. A name is good on Linux, macOS
//! and Windows alike, and two different jobs never share one, also where the
//! file system takes `A` for `a` or composes accents: whatever had to be
//! changed, or could be taken for something else, carries a digest of what it
//! was. In the README this is `--name`. No file is looked at here.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// The longest part, in bytes.
const PART_BYTES: usize = 80;
/// The longest name without its extension, in bytes. File systems allow 255;
/// the rest is room for `.txt`, `.error.txt` and `.partial`.
const STEM_BYTES: usize = 200;
/// Digits of the digest behind a part that was changed.
const PART_DIGITS: usize = 8;
/// Digits of the digest behind a name that was cut as a whole. More than a part's, so that
/// the one is never taken for the other.
const STEM_DIGITS: usize = 16;
/// Stands before a digest, and nowhere else.
const MARK: char = '~';
/// What a job without an input has in the input's place, and one without axes
/// in theirs.
const NONE: &str = "none";
/// End the names of files that lie beside a result, before their `.txt`.
const BESIDE: [&str; 3] = [".error", ".raw", ".reasoning"];

/// What a job is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The prompts, as they were asked for.
    pub prompt: &'a str,
    /// The model.
    pub model: &'a str,
    /// The input; absent where the job reads none.
    pub input: Option<&'a str>,
    /// Names and values of the axes, in order.
    pub params: &'a [(String, String)],
}

/// A template such as `{prompt}--{model}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
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
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    fn fill(self, parts: &Parts<'_>) -> String {
        match self {
            Self::Prompt => part(parts.prompt, false),
            Self::Model => part(parts.model, false),
            // An input may really be called `none`.
            Self::Input => parts
                .input
                .map_or_else(|| NONE.to_owned(), |it| part(it, it == NONE)),
            Self::Params => part(&params(parts.params), false),
        }
    }
}

impl Template {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, for the one who typed it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("the template is empty; {}", known()));
        }
        if text.starts_with(['.', ' ']) || text.ends_with(['.', ' ']) {
            return Err(format!(
                "`{text}` begins or ends with a dot or a blank, which no name should"
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let brace = rest.find(['{', '}']).unwrap_or(rest.len());
            let (fixed, from_brace) = rest.split_at(brace);
            if let Some(wrong) = fixed.chars().find(|it| cannot_stand(*it)) {
                return Err(refusal(text, wrong));
            }
            if !fixed.is_empty() {
                pieces.push(Piece::Fixed(fixed.to_owned()));
            }
            if from_brace.is_empty() {
                break;
            }
            let Some(inside) = from_brace.strip_prefix('{') else {
                return Err(format!("`{text}` has a `}}` without a `{{` before it"));
            };
            let (name, after) = match inside.split_once('}') {
                Some((name, after)) if !name.contains('{') => (name, after),
                _ => return Err(format!("`{text}` has a `{{` without a `}}` behind it")),
            };
            let placeholder = Placeholder::parse(name)
                .ok_or_else(|| format!("`{{{name}}}` is no placeholder; {}", known()))?;
            pieces.push(Piece::Placeholder(placeholder));
            rest = after;
        }
        if !pieces.iter().any(|it| matches!(it, Piece::Placeholder(_))) {
            return Err(format!(
                "`{text}` has no placeholder, so that all files would have one name; {}",
                known()
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// `{prompt}--{model}`, with `--{input}` when there are several inputs and
    /// `--{params}` when there are axes.
    #[must_use]
    pub fn usual(has_inputs: bool, has_axes: bool) -> Self {
        let mut text = String::new();
        let mut pieces = Vec::new();
        for placeholder in Placeholder::ALL {
            let wanted = match placeholder {
                Placeholder::Prompt | Placeholder::Model => true,
                Placeholder::Input => has_inputs,
                Placeholder::Params => has_axes,
            };
            if !wanted {
                continue;
            }
            if !pieces.is_empty() {
                // No part holds two hyphens in a row, nor has one at an end.
                pieces.push(Piece::Fixed("--".to_owned()));
                text.push_str("--");
            }
            pieces.push(Piece::Placeholder(placeholder));
            text.push_str(&format!("{{{}}}", placeholder.as_str()));
        }
        Self { text, pieces }
    }

    /// As it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The file's name, with `.extension`.
    #[must_use]
    pub fn name(&self, parts: &Parts<'_>, extension: &str) -> String {
        let joined: String = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Fixed(text) => text.clone(),
                Piece::Placeholder(placeholder) => placeholder.fill(parts),
            })
            .collect();
        // An accent at a part's start may compose with the text before it.
        let mut stem: String = joined.nfc().collect();
        // Fixed text may have made one: `co{prompt}`.
        if is_reserved(&stem) {
            stem.insert(0, '_');
        }
        // Else a job could be called like the failure of another.
        let plain = key(&stem);
        let is_like_ours = BESIDE.iter().any(|it| plain.ends_with(it));
        if stem.len() > STEM_BYTES || is_like_ours {
            let digest = digest(&stem, STEM_DIGITS);
            let room = STEM_BYTES - STEM_DIGITS - MARK.len_utf8();
            stem.truncate(stem.floor_char_boundary(room));
            stem.push(MARK);
            stem.push_str(&digest);
        }
        format!("{stem}.{extension}")
    }
}

/// By what names are compared: two names of equal key may be one file on some
/// file system. Lower case alone is too fine: some fold `ß` to `ss`, and `ſ` to
/// `s`, which takes a turn through upper case. Letter by letter, as a sigma's
/// form would else depend on its neighbours.
#[must_use]
pub fn key(name: &str) -> String {
    name.nfd()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

fn known() -> String {
    let names = Placeholder::ALL.map(|it| format!("{{{}}}", it.as_str()));
    format!("there are {}", names.join(" "))
}

fn refusal(text: &str, wrong: char) -> String {
    match wrong {
        '/' | '\\' => format!("`{text}` has a `{wrong}`; a template names a file, not a folder"),
        MARK => format!("`{text}` has a `{MARK}`, which stands before digests only"),
        // Said by number, as many cannot be seen.
        _ => format!(
            "`{text}` has the character {wrong:?} (U+{:04X}), which not every file name can have",
            u32::from(wrong)
        ),
    }
}

/// Makes a part of a name. `apart` asks for the digest in any case.
fn part(raw: &str, apart: bool) -> String {
    let mut body = cleaned(raw);
    if is_reserved(&body) {
        body.insert(0, '_');
    }
    let plain = body == raw && key(raw) == raw && body.len() <= PART_BYTES;
    if plain && !apart {
        return body;
    }
    let room = PART_BYTES - PART_DIGITS - MARK.len_utf8();
    body.truncate(body.floor_char_boundary(room));
    body.push(MARK);
    body.push_str(&digest(raw, PART_DIGITS));
    body
}

/// The text with `_` for all that a part cannot have; never empty. That includes
/// the second of two hyphens, since two separate the parts.
fn cleaned(raw: &str) -> String {
    let mut chars: Vec<char> = raw
        .nfc()
        .map(|it| if cannot_stand(it) { '_' } else { it })
        .collect();
    let at_an_end = |it: &&mut char| matches!(**it, ' ' | '.' | '-');
    chars
        .iter_mut()
        .take_while(at_an_end)
        .for_each(|it| *it = '_');
    chars
        .iter_mut()
        .rev()
        .take_while(at_an_end)
        .for_each(|it| *it = '_');
    let mut text = String::new();
    for it in chars {
        let doubled = it == '-' && text.ends_with('-');
        text.push(if doubled { '_' } else { it });
    }
    if text.is_empty() {
        text.push('_');
    }
    text
}

/// The axes as one text. Names and values may themselves hold what separates
/// them. Lower-case digits, as capitals would ask for a digest.
fn params(params: &[(String, String)]) -> String {
    if params.is_empty() {
        // All others hold an `=`.
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

/// What some system refuses, what nobody sees, and the mark.
fn cannot_stand(it: char) -> bool {
    let refused = matches!(
        it,
        '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | MARK
    );
    let blank = it.is_whitespace() && it != ' ';
    refused || blank || it.is_control() || is_invisible(it)
}

/// Marks of direction, joiners, fillers and the like, and what is no character.
/// Some file systems leave them out when they compare names.
fn is_invisible(it: char) -> bool {
    matches!(
        u32::from(it),
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
    ) || u32::from(it) & 0xFFFE == 0xFFFE
}

/// Whether Windows takes the name for a device, whatever follows the first dot.
fn is_reserved(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name).trim_end();
    let is = |it: &&str| name.eq_ignore_ascii_case(it);
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(is)
    {
        return true;
    }
    let mut chars = name.chars();
    let number = chars.next_back();
    let port = chars.as_str();
    (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
        && number.is_some_and(|it| matches!(it, '0'..='9' | '¹' | '²' | '³'))
}

fn digest(text: &str, digits: usize) -> String {
    let mut hex = format!("{:x}", Sha256::digest(text));
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

    /// Everything that separates, marks, folds or composes.
    const ALPHABET: [&str; 16] = [
        "-", "~", ".", "a", "A", "/", ",", "=", "\u{e9}", "e\u{301}", "ß", "İ", "\u{301}", "_",
        "s", " ",
    ];

    fn check(template: &str, parts: Parts<'_>, expected: &str) {
        let name = Template::parse(template).unwrap().name(&parts, "txt");
        // Of a digest the length is shown.
        let mut pieces = name.split(MARK);
        let mut shown = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let rest = piece.trim_start_matches(|it: char| it.is_ascii_hexdigit());
            shown.push_str(&format!("~{}{rest}", piece.len() - rest.len()));
        }
        assert_eq!(shown, expected, "{template} {parts:?}");
    }

    fn two<'a>(prompt: &'a str, model: &'a str) -> Parts<'a> {
        Parts {
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
    fn ordinary_names_are_as_typed_and_others_are_marked() {
        let plain = "{prompt}--{model}";
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
            check(plain, two(prompt, model), expected);
        }
    }

    #[test]
    fn digests_are_of_what_was_typed() {
        let name = Template::usual(false, false).name(&two("a", "google/gemma-3n-e4b"), "md");
        let hex = format!("{:x}", Sha256::digest("google/gemma-3n-e4b"));
        assert_eq!(name, format!("a--google_gemma-3n-e4b~{}.md", &hex[..8]));
    }

    #[test]
    fn inputs_and_axes() {
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
            let parts = Parts {
                input,
                params: &params,
                ..two("p", "m")
            };
            check("{prompt}--{model}--{input}--{params}", parts, expected);
        }
    }

    #[test]
    fn other_templates_are_safe_too() {
        let long = "x".repeat(79);
        let whole = format!("{long}--{long}--{}~16.txt", &long[..21]);
        for (template, parts, expected) in [
            ("{model}", two("p", "m"), "m.txt"),
            ("{model}.{model}", two("p", "m"), "m.m.txt"),
            ("CO{model}", two("p", "n"), "_COn.txt"),
            ("{prompt}.{model}", two("p", "error"), "p.error~16.txt"),
            ("a{model}", two("p", "\u{301}x"), "áx.txt"),
            ("{model}--{model}--{model}", two("p", &long), &whole),
        ] {
            check(template, parts, expected);
        }
    }

    #[test]
    fn a_wrong_template_is_told_what_is_wrong() {
        for (template, expected) in [
            ("", "the template is empty; there are {prompt} {model}"),
            ("{what}", "`{what}` is no placeholder; there are {prompt}"),
            ("{}", "`{}` is no placeholder"),
            ("{Model}", "`{Model}` is no placeholder"),
            ("{model", "`{model` has a `{` without a `}` behind it"),
            ("{{model}", "has a `{` without a `}` behind it"),
            ("{mo{del}}", "has a `{` without a `}` behind it"),
            ("{model}}", "has a `}` without a `{` before it"),
            ("}{model}", "has a `}` without a `{` before it"),
            ("result", "`result` has no placeholder"),
            ("out/{model}", "`out/{model}` has a `/`"),
            ("out\\{model}", "has a `\\`"),
            ("{model}:{prompt}", "has the character ':' (U+003A)"),
            (
                "{model}\u{202e}",
                "has the character '\\u{202e}' (U+202E), which",
            ),
            ("{model}~", "has a `~`, which stands before digests only"),
            (".{model}", "begins or ends with a dot or a blank"),
            ("{model}.", "begins or ends with a dot or a blank"),
            (" {model}", "begins or ends with a dot or a blank"),
        ] {
            let told = Template::parse(template).unwrap_err();
            assert!(told.contains(expected), "{template}: {told}");
        }
    }

    #[test]
    fn the_usual_templates() {
        for (has_inputs, has_axes, expected) in [
            (false, false, "{prompt}--{model}"),
            (true, false, "{prompt}--{model}--{input}"),
            (false, true, "{prompt}--{model}--{params}"),
            (true, true, "{prompt}--{model}--{input}--{params}"),
        ] {
            let usual = Template::usual(has_inputs, has_axes);
            assert_eq!(usual.as_str(), expected);
            assert_eq!(Template::parse(expected), Ok(usual.clone()));
            assert_eq!(usual.as_str().contains("{input}"), has_inputs);
            assert_eq!(usual.as_str().contains("{params}"), has_axes);
            assert!(usual.as_str().starts_with("{prompt}--{model}"));
        }
    }

    #[test]
    fn keys_are_equal_where_some_file_system_sees_one_file() {
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
            assert_eq!(key(a), key(b), "{a} {b}");
        }
        for (a, b) in [("a", "b"), ("e", "é"), ("ı", "j"), ("a.", "a")] {
            assert_ne!(key(a), key(b), "{a} {b}");
        }
    }

    /// All texts of at most so many letters.
    fn all(letters: &[&str], most: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..most {
            let until = all.len();
            for at in from..until {
                for letter in letters {
                    all.push(format!("{}{letter}", all[at]));
                }
            }
            from = until;
        }
        // Letters may join in two ways.
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn no_two_short_jobs_share_a_name() {
        let usual = Template::usual(false, false);
        for (letters, most) in [(&ALPHABET[..], 2), (&["-", "a", "~"], 4), (&["-", "a"], 6)] {
            let texts = all(letters, most);
            let mut seen = BTreeMap::new();
            for prompt in &texts {
                for model in &texts {
                    let name = key(&usual.name(&two(prompt, model), "txt"));
                    if let Some(other) = seen.insert(name.clone(), (prompt, model)) {
                        panic!("{name}: {prompt:?} {model:?} and {other:?}");
                    }
                }
            }
        }
    }

    /// Why a name is no good; written apart from what made it.
    fn trouble(name: &str) -> Option<&'static str> {
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
            || name.contains(|it: char| it.is_control() || (it.is_whitespace() && it != ' '))
            || name.contains(|it: char| ('\u{2028}'..='\u{202e}').contains(&it))
        {
            Some("character")
        } else if devices.split(' ').any(|it| it == device) {
            Some("device")
        } else if name.nfc().ne(name.chars()) {
            Some("not composed")
        } else if stem.to_lowercase().ends_with(".error") {
            Some("like a failure")
        } else {
            None
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let words = ["con", "COM1", "none", "--", "error", "ǅ", "x~12345678"];
        let piece = select(ALPHABET.into_iter().chain(words).collect::<Vec<_>>());
        prop_oneof![
            8 => vec(piece, 0..9).prop_map(|it| it.concat()),
            // Also what is as long as can be, and what is any character.
            1 => vec(any::<char>(), 0..300).prop_map(String::from_iter),
            1 => vec(select(ALPHABET.to_vec()), 60..100).prop_map(|it| it.concat()),
        ]
    }

    type Job = (String, String, Option<String>, Vec<(String, String)>);

    fn job() -> impl Strategy<Value = Job> {
        let params = vec((text(), text()), 0..3);
        (text(), text(), proptest::option::of(text()), params)
    }

    fn name_of(job: &Job, template: &Template) -> String {
        let parts = Parts {
            prompt: &job.0,
            model: &job.1,
            input: job.2.as_deref(),
            params: &job.3,
        };
        template.name(&parts, "txt")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn different_jobs_have_different_names(a in job(), b in job()) {
            let usual = Template::usual(true, true);
            // Also jobs that differ in one part alone.
            let jobs = BTreeSet::from([
                (b.0.clone(), a.1.clone(), a.2.clone(), a.3.clone()),
                (a.0.clone(), b.1.clone(), a.2.clone(), a.3.clone()),
                (a.0.clone(), a.1.clone(), b.2.clone(), a.3.clone()),
                (a.0.clone(), a.1.clone(), a.2.clone(), b.3.clone()),
                a,
                b,
            ]);
            let names: BTreeSet<String> =
                jobs.iter().map(|it| key(&name_of(it, &usual))).collect();
            prop_assert_eq!(names.len(), jobs.len(), "{:?}", jobs);
        }

        #[test]
        fn it_matters_where_a_text_is_split(text in vec(select(ALPHABET.to_vec()), 0..12)) {
            let usual = Template::usual(true, false);
            let mut jobs = BTreeSet::new();
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    for input in [None, Some(text[second..].concat())] {
                        let prompt = text[..first].concat();
                        let model = text[first..second].concat();
                        // And with what separates them being lost.
                        let lost = text[(first + 1).min(second)..second].concat();
                        jobs.insert((prompt.clone(), model, input.clone(), Vec::new()));
                        jobs.insert((prompt, lost, input, Vec::new()));
                    }
                }
            }
            let names: BTreeSet<String> =
                jobs.iter().map(|it| key(&name_of(it, &usual))).collect();
            prop_assert_eq!(names.len(), jobs.len());
        }

        #[test]
        fn a_name_typed_as_a_part_is_another(raw in text()) {
            let once = part(&raw, false);
            let twice = part(&once, false);
            prop_assert_eq!(once == raw, key(&once) == key(&twice), "{:?} {}", raw, twice);
        }

        #[test]
        fn axes_are_told_apart(a in vec((text(), text()), 0..3), b in vec((text(), text()), 0..3)) {
            prop_assert_eq!(a == b, params(&a) == params(&b));
        }

        #[test]
        fn every_name_is_safe(job in job()) {
            let mut templates = vec![Template::usual(false, false), Template::usual(true, true)];
            for text in ["{model}", "{params}{input}", "C{prompt}{model}", "{input}.{model}"] {
                templates.push(Template::parse(text).unwrap());
            }
            for template in templates {
                let name = name_of(&job, &template);
                prop_assert_eq!(trouble(&name), None, "{}", name);
            }
        }
    }
}
