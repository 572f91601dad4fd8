//! Images that are sent with a prompt: their files, and their contents when a job runs.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::distinct_name::distinct_name;
use crate::store::sha256_hex;

/// The size limit of one image in bytes. It exceeds what servers accept by default, and
/// stops reads from devices such as /dev/zero.
const IMAGE_BYTES_MAX: u64 = 20 << 20;

/// The size limit of all images of one job in bytes. A request holds them in base64.
const JOB_IMAGES_BYTES_MAX: u64 = 64 << 20;

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageFormat {
    /// PNG.
    #[serde(rename = "image/png")]
    Png,
    /// JPEG.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// WebP.
    #[serde(rename = "image/webp")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The name by which packs place the image: the bare file name.
    pub name: String,
    path: PathBuf,
    format: ImageFormat,
    sha256: String,
    bytes: u64,
    /// The content of a pipe, which cannot be read twice.
    #[serde(skip)]
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
    /// The file cannot be read. The I/O error names it.
    #[error("attachment: {0}")]
    Read(#[source] io::Error),
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

impl AttachmentError {
    /// Returns a hint for the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnImage(_) => Some("convert it, for example with `magick FILE FILE.png`"),
            Self::TooLarge(_) | Self::TooLargeTogether { .. } => {
                Some("scale images down; models see about 1000 pixels per side")
            }
            Self::IsDirectory(_) => Some("use 'FOLDER/*.png' in a plan for the files in it"),
            Self::Read(_) | Self::Changed(_) => None,
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
        let is_regular = fs::metadata(path).map_err(AttachmentError::Read)?.is_file();
        let content = read_image(path)?;
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
                let content = match read_image(&self.path) {
                    // It was below the limit before.
                    Err(AttachmentError::TooLarge(path)) => {
                        return Err(AttachmentError::Changed(path));
                    }
                    other => other?,
                };
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
        .unwrap_or_else(|error| Err(AttachmentError::Read(io::Error::other(error))))
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

/// Checks the size of all attachments of a job.
///
/// # Errors
/// Returns an error that names them if they are too large together.
pub(crate) fn check_total_size(attachments: &[Attachment]) -> Result<(), AttachmentError> {
    let total: u64 = attachments.iter().map(|attachment| attachment.bytes).sum();
    if total <= JOB_IMAGES_BYTES_MAX {
        return Ok(());
    }
    Err(AttachmentError::TooLargeTogether {
        names: names(attachments),
    })
}

/// Returns the names of attachments for a message.
pub(crate) fn names(attachments: &[Attachment]) -> String {
    let names: Vec<&str> = attachments
        .iter()
        .map(|attachment| attachment.name.as_str())
        .collect();
    names.join(", ")
}

fn read_image(path: &Path) -> Result<Vec<u8>, AttachmentError> {
    let read = || {
        let mut content = Vec::new();
        fs::File::open(path)?
            .take(IMAGE_BYTES_MAX + 1)
            .read_to_end(&mut content)?;
        Ok(content)
    };
    let content = read().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::IsADirectory => AttachmentError::IsDirectory(path.to_owned()),
        _ => AttachmentError::Read(error),
    })?;
    if content.len() as u64 > IMAGE_BYTES_MAX {
        return Err(AttachmentError::TooLarge(path.to_owned()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (folder.path().join("none"), "none"),
        ] {
            let error = Attachment::read(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        let limit = file("c.png", &large[..IMAGE_BYTES_MAX as usize]);
        let one = Attachment::read(&limit).unwrap();
        let all = with_distinct_names([&one, &one, &one, &one]);
        assert!(check_total_size(&all[..3]).is_ok());
        let error = check_total_size(&all).unwrap_err().to_string();
        assert!(
            error.ends_with("c.png, c-2.png, c-3.png, c-4.png"),
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
