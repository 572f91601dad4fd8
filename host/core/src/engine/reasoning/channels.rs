//! The tokens of gpt-oss's channels.

/// The tokens at which the header of a channel begins.
pub(super) const CHANNEL_STARTS: [&str; 2] = ["<|start|>", "<|channel|>"];
/// The token before the name of a channel.
const CHANNEL: &str = "<|channel|>";
/// The token after the header of a channel.
const MESSAGE: &str = "<|message|>";
/// The tokens that end a channel.
pub(super) const CHANNEL_ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];
/// Maximum length in bytes of the header of a channel.
pub(super) const MAX_HEADER_BYTES: usize = 256;

/// The header of a channel.
pub(super) struct ChannelHeader {
    /// Its length in bytes.
    pub(super) length: usize,
    /// The channel is the answer. Without a name it is a message as of other models.
    pub(super) is_final: bool,
}

/// Parses the header at the start of a text in lower case; `None` if it is not complete.
pub(super) fn parse_header(lower: &str) -> Option<ChannelHeader> {
    let end = lower.find(MESSAGE)?;
    let name = lower[..end]
        .rsplit_once(CHANNEL)
        .and_then(|(_, channel)| channel.split([' ', '<']).next());
    Some(ChannelHeader {
        length: end + MESSAGE.len(),
        is_final: name.is_none_or(|name| name == "final"),
    })
}
