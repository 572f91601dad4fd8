//! References to model files: `OWNER/REPO[:QUANT]`.

use super::error::HubError;

/// A reference to a model file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    /// The repository, `OWNER/REPO`.
    pub repo: String,
    /// The quantization or the file name.
    pub quant: Option<String>,
}

impl HubReference {
    /// Parses `OWNER/REPO[:QUANT]`, also as a URL of the hub.
    ///
    /// # Errors
    /// Returns an error unless `text` is `OWNER/REPO[:QUANT]`.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let invalid = || HubError::InvalidReference(text.to_owned());
        let plain = text
            .trim_start_matches("https://")
            .trim_start_matches("huggingface.co/")
            .trim_start_matches("hf.co/")
            .trim_end_matches('/');
        let (repo, quant) = match plain.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (plain, None),
        };
        let is_name = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.len() <= 96
                && part
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
        };
        let (owner, name) = repo.split_once('/').ok_or_else(invalid)?;
        if !is_name(owner) || !is_name(name) || quant.is_some_and(str::is_empty) {
            return Err(invalid());
        }
        Ok(Self {
            repo: repo.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_with_and_without_url() {
        for (text, expected) in [
            ("a/b", Some(("a/b", None))),
            ("a/b-GGUF:Q8_0", Some(("a/b-GGUF", Some("Q8_0")))),
            ("hf.co/a/b:x", Some(("a/b", Some("x")))),
            ("https://huggingface.co/a/b/", Some(("a/b", None))),
            ("a", None),
            ("a/b/c", None),
            ("../b", None),
            ("a/..", None),
            ("a/b:", None),
            ("a b/c", None),
            ("", None),
        ] {
            let reference = HubReference::parse(text).ok();
            let parts = reference
                .as_ref()
                .map(|reference| (reference.repo.as_str(), reference.quant.as_deref()));
            assert_eq!(parts, expected, "{text}");
        }
    }
}
