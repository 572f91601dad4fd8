//! The images of messages, in the forms of requests.

use base64::prelude::{BASE64_STANDARD, Engine};
use lmstrix_inference::Message;

use super::wire::WireRequest;
use crate::attachment::AttachedImage;

impl WireRequest<'_> {
    /// Returns the images of a message, in order.
    pub(super) fn images_of(&self, message: &Message) -> impl Iterator<Item = &AttachedImage> {
        let named = |name: &String| self.images.iter().find(|image| image.name == *name);
        message.attachments.iter().filter_map(named)
    }
}

/// Returns the content of an image in base64 (RFC 4648, section 4).
pub(super) fn base64(image: &AttachedImage) -> String {
    BASE64_STANDARD.encode(&image.content)
}

/// Returns a data URL (RFC 2397) of an image.
pub(super) fn data_url(image: &AttachedImage) -> String {
    format!(
        "data:{};base64,{}",
        image.format.media_type(),
        base64(image)
    )
}
