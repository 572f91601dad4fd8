//! Images that are sent with a prompt: their files, and their contents when a job runs.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix_inference::Message;

use crate::distinct_name::distinct_name;
use crate::store::sha256_hex;

/// The size limit of one image in bytes. It exceeds what servers accept by default, and
/// stops reads from devices such as /dev/zero.
const IMAGE_BYTES_MAX: u64 = 20 << 20;

/// The size limit of all images of one job in bytes. A request holds them in base64.
const JOB_IMAGES_BYTES_MAX: u64 = 64 << 20;

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
}

impl ImageFormat {
    /// Returns the format by the signature at the start of a file.
    fn of(content: &[u8]) -> Option<Self> {
        match content {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            // The size of the file is between the two names.
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::Webp),
            _ => None,
        }
    }

    /// Returns the media type, as data URLs have it.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }
}

/// An image file that is sent with a prompt. Its content is read again when the job runs,
/// so that thousands of images need no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The name by which packs place the image: the bare file name.
    pub name: String,
    path: PathBuf,
    format: ImageFormat,
    sha256: String,
    bytes: u64,
    /// The content of a pipe, which cannot be read twice.
    pipe_content: Option<Arc<[u8]>>,
}

/// An image that is sent with a message, with its content.
#[derive(Clone, PartialEq, Eq)]
pub struct AttachedImage {
    /// The name by which messages refer to the image.
    pub name: String,
    /// The format.
    pub format: ImageFormat,
    /// The file as it is.
    pub content: Arc<[u8]>,
}

/// Leaves out the content.
impl fmt::Debug for AttachedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedImage")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// An error of an attachment.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// The file cannot be read.
    #[error("cannot read attachment `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// The thread that reads the files died.
    #[error("cannot read the attachments: {0}")]
    ReaderDied(String),
    /// The path is a folder, not a file.
    #[error("attachment `{}` is a folder", .0.display())]
    IsDirectory(PathBuf),
    /// The content is not an image of a supported format.
    #[error("attachment `{}` is not a PNG, JPEG or WebP image", .0.display())]
    NotAnImage(PathBuf),
    /// The file exceeds the size limit.
    #[error(
        "attachment `{}` is larger than {} MiB, the limit for one image",
        .0.display(),
        IMAGE_BYTES_MAX >> 20
    )]
    TooLarge(PathBuf),
    /// The images of one job exceed the size limit.
    #[error(
        "the attachments are larger than {} MiB together, the limit for one prompt: {names}",
        JOB_IMAGES_BYTES_MAX >> 20
    )]
    TooLargeTogether {
        /// Their names.
        names: String,
    },
    /// The content has changed since the file was read first.
    #[error("attachment `{}` has changed since it was read first: run the command again", .0.display())]
    Changed(PathBuf),
}

const PATTERN_HINT: &str =
    "name each file; `batch --inputs` and `attach` of `[[input]]` take patterns such as '*.png'";

impl AttachmentError {
    /// Returns a hint for the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnImage(_) => Some("convert it, for example with `magick FILE FILE.png`"),
            Self::TooLarge(_) | Self::TooLargeTogether { .. } => Some("scale the images down"),
            Self::IsDirectory(_) => Some(PATTERN_HINT),
            Self::Read { path, .. } if path.to_string_lossy().contains(['*', '?', '[']) => {
                Some(PATTERN_HINT)
            }
            Self::Read { .. } | Self::ReaderDied(_) | Self::Changed(_) => None,
        }
    }
}

impl Attachment {
    /// Reads a file and checks that it is an image.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is too large, or is not a PNG, JPEG or
    /// WebP image.
    pub fn read(path: &Path) -> Result<Self, AttachmentError> {
        let (content, is_regular) = read_image(path)?;
        let format = ImageFormat::of(&content)
            .ok_or_else(|| AttachmentError::NotAnImage(path.to_owned()))?;
        Ok(Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path: path.to_owned(),
            format,
            sha256: sha256_hex(&content),
            bytes: content.len() as u64,
            pipe_content: (!is_regular).then(|| content.into()),
        })
    }

    /// Returns the SHA-256 of the content in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Reads the content again.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has changed.
    fn load(self) -> Result<AttachedImage, AttachmentError> {
        let content = match self.pipe_content {
            Some(content) => content,
            None => {
                let (content, _) = read_image(&self.path).map_err(|error| match error {
                    // It was below the limit before.
                    AttachmentError::TooLarge(path) => AttachmentError::Changed(path),
                    other => other,
                })?;
                if content.len() as u64 != self.bytes || sha256_hex(&content) != self.sha256 {
                    return Err(AttachmentError::Changed(self.path));
                }
                content.into()
            }
        };
        Ok(AttachedImage {
            name: self.name,
            format: self.format,
            content,
        })
    }
}

/// Reads the contents of attachments on a thread for blocking work.
///
/// # Errors
/// Returns an error if a file cannot be read or has changed.
pub(crate) async fn load_images(
    attachments: Vec<Attachment>,
) -> Result<Vec<AttachedImage>, AttachmentError> {
    if attachments.is_empty() {
        return Ok(Vec::new());
    }
    let load = move || attachments.into_iter().map(Attachment::load).collect();
    tokio::task::spawn_blocking(load)
        .await
        .unwrap_or_else(|error| Err(AttachmentError::ReaderDied(error.to_string())))
}

/// Returns all attachments of a job under distinct names, since packs know names only.
pub(crate) fn with_distinct_names<'a>(
    attachments: impl IntoIterator<Item = &'a Attachment>,
) -> Vec<Attachment> {
    let mut all: Vec<Attachment> = Vec::new();
    for attachment in attachments {
        let is_taken = |name: &str| all.iter().any(|known| known.name == name);
        let name = distinct_name(&attachment.name, is_taken);
        all.push(Attachment {
            name,
            ..attachment.clone()
        });
    }
    all
}

/// Checks the size of the images of all messages, which name attachments. An image in two
/// messages is sent twice.
///
/// # Errors
/// Returns an error that names the attachments if their images are too large together.
pub(crate) fn check_total_size(
    messages: &[Message],
    attachments: &[Attachment],
) -> Result<(), AttachmentError> {
    let bytes = |name: &String| {
        let named = attachments
            .iter()
            .find(|attachment| attachment.name == *name);
        named.map_or(0, |attachment| attachment.bytes)
    };
    let sent = messages.iter().flat_map(|message| &message.attachments);
    let total = sent.map(bytes).fold(0_u64, u64::saturating_add);
    if total <= JOB_IMAGES_BYTES_MAX {
        return Ok(());
    }
    Err(AttachmentError::TooLargeTogether {
        names: names(attachments),
    })
}

/// Returns the names of attachments for a message.
pub(crate) fn names(attachments: &[Attachment]) -> String {
    let names: Vec<String> = attachments
        .iter()
        .map(|attachment| format!("`{}`", attachment.name))
        .collect();
    names.join(", ")
}

/// Returns whether a file is an image by the extension of its name.
pub(crate) fn has_image_extension(path: &Path) -> bool {
    has_extension(path, &["png", "jpg", "jpeg", "webp"])
}

/// Returns a hint for an image that is read as a text.
pub(crate) fn image_hint(path: &Path) -> Option<&'static str> {
    if has_image_extension(path) {
        Some("an image is sent with --attach, or as an input of a batch with --inputs")
    } else if has_extension(path, &["avif", "bmp", "gif", "heic", "tif", "tiff"]) {
        Some("convert the image to PNG, JPEG or WebP, and send it with --attach")
    } else {
        None
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Reads a file. Also returns whether it is a regular file, which can be read again.
fn read_image(path: &Path) -> Result<(Vec<u8>, bool), AttachmentError> {
    let failed = |source| AttachmentError::Read {
        path: path.to_owned(),
        source,
    };
    // On some systems a folder cannot be opened, with an error that does not name it.
    if path.is_dir() {
        return Err(AttachmentError::IsDirectory(path.to_owned()));
    }
    // The errors of `fs_err` would name the file a second time.
    let file = std::fs::File::open(path).map_err(failed)?;
    let is_regular = file.metadata().map_err(failed)?.is_file();
    let mut content = Vec::new();
    file.take(IMAGE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > IMAGE_BYTES_MAX {
        return Err(AttachmentError::TooLarge(path.to_owned()));
    }
    Ok((content, is_regular))
}

#[cfg(test)]
mod tests {
    use lmstrix_inference::Role;

    use super::*;
    use crate::error_chain::error_chain;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n...";

    #[test]
    fn the_format_is_that_of_the_content() {
        for (content, format) in [
            (PNG, Some(ImageFormat::Png)),
            (b"\xff\xd8\xff\xe0..JFIF", Some(ImageFormat::Jpeg)),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some(ImageFormat::Webp)),
            (b"RIFF\x24\0\0\0WAVEfmt ", None),
            (b"GIF89a", None),
            (b"<svg>", None),
            (b"\x89PNG", None),
            (b"", None),
        ] {
            assert_eq!(ImageFormat::of(content), format, "{content:?}");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let large = [PNG, &vec![0; IMAGE_BYTES_MAX as usize]].concat();
        for (path, message) in [
            (file("a.png", b"text"), "is not a PNG, JPEG or WebP image"),
            (file("b.png", &large), "is larger than 20 MiB"),
            (folder.path().to_owned(), "is a folder"),
            (folder.path().join("none"), "cannot read attachment"),
        ] {
            let error = error_chain(&Attachment::read(&path).unwrap_err());
            assert!(error.contains(message), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        let limit = file("c.png", &large[..IMAGE_BYTES_MAX as usize]);
        let one = Attachment::read(&limit).unwrap();
        let all = with_distinct_names([&one, &one, &one, &one]);
        let message = |names: &[&str]| {
            let mut message = Message::new(Role::User, "");
            message.attachments = names.iter().map(|&name| name.to_owned()).collect();
            [message]
        };
        let three = message(&["c.png", "c-2.png", "c-3.png"]);
        assert!(check_total_size(&three, &all).is_ok());
        // A pack may place one image many times.
        let four = message(&["c.png", "c.png", "c.png", "c.png"]);
        let error = check_total_size(&four, &all).unwrap_err().to_string();
        assert!(
            error.ends_with("`c.png`, `c-2.png`, `c-3.png`, `c-4.png`"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_changed_file_is_an_error_when_the_job_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, PNG).unwrap();
        let attachment = Attachment::read(&path).unwrap();
        let images = load_images(vec![attachment.clone()]).await.unwrap();
        assert_eq!(&*images[0].content, PNG);
        std::fs::write(&path, [PNG, b"x"].concat()).unwrap();
        let error = load_images(vec![attachment]).await.unwrap_err();
        assert!(matches!(error, AttachmentError::Changed(_)), "{error}");
    }
}
