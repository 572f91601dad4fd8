//! A loaded instance, as its server reports it.

/// A loaded instance, as reported by its server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct ServerInstance {
    /// The identifier that requests use.
    pub(in crate::engine) id: String,
    /// Effective context length in tokens, if known.
    pub(in crate::engine) context: Option<u32>,
    /// Context length in tokens that the model declares, if known.
    pub(in crate::engine) declared: Option<u32>,
    /// Load time in seconds, if this run loaded the instance.
    pub(in crate::engine) load_s: Option<f64>,
    /// `true` if this run loaded the instance.
    pub(in crate::engine) is_owned: bool,
    /// Warnings to show to the user.
    pub(in crate::engine) warnings: Vec<String>,
}
