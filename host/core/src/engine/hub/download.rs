//! Downloads the data of a file in several attempts, each of which resumes where the
//! one before ended.

use std::time::Duration;

use super::client::Hub;
use super::error::{HubError, MAX_ATTEMPTS};
use super::partial_file::PartialFile;
use super::reference::HubReference;
use super::remote_file::RemoteFile;

/// Limit on a download without new data.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullProgress {
    /// The download of a file started.
    Started {
        /// The file name.
        name: String,
        /// The size of the file, in bytes.
        total_bytes: u64,
        /// The bytes that an earlier run downloaded.
        present_bytes: u64,
    },
    /// The number of bytes downloaded so far, with those of earlier runs.
    Received(u64),
    /// The download was interrupted for this reason and is resumed.
    Retrying(String),
    /// The checksum is being computed.
    Verifying,
}

impl Hub {
    /// Downloads what `partial` lacks of the data of `remote`.
    ///
    /// # Errors
    /// Returns an error if the hub returns an HTTP error, the file cannot be written,
    /// or several attempts in sequence make no progress.
    pub(super) async fn download(
        &self,
        reference: &HubReference,
        revision: &str,
        remote: &RemoteFile,
        partial: &mut PartialFile,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), HubError> {
        on_progress(PullProgress::Started {
            name: remote.name().to_owned(),
            total_bytes: remote.size,
            present_bytes: partial.present_bytes(),
        });
        let mut attempts = 0;
        while partial.present_bytes() < remote.size {
            let before = partial.present_bytes();
            let attempt = self
                .download_once(reference, revision, remote, partial, on_progress)
                .await;
            let reason = match attempt {
                Ok(()) if partial.present_bytes() >= remote.size => break,
                Ok(()) => "the response ended early".to_owned(),
                Err(Some(error)) => return Err(error),
                Err(None) => "connection lost or stalled".to_owned(),
            };
            attempts = if partial.present_bytes() > before {
                1
            } else {
                attempts + 1
            };
            if attempts >= MAX_ATTEMPTS {
                return Err(HubError::DownloadInterrupted(reason));
            }
            on_progress(PullProgress::Retrying(reason));
            tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(attempts)).await;
        }
        Ok(())
    }

    /// Sends one request and appends the received data to `partial`.
    ///
    /// # Errors
    /// Returns `None` for a transient error, after which the download can be resumed.
    async fn download_once(
        &self,
        reference: &HubReference,
        revision: &str,
        remote: &RemoteFile,
        partial: &mut PartialFile,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), Option<HubError>> {
        let mut request = self.file_request(&reference.repo, revision, &remote.path);
        if partial.present_bytes() > 0 {
            request = request.header("range", format!("bytes={}-", partial.present_bytes()));
        }
        let sent = tokio::time::timeout(STALL_TIMEOUT, request.send()).await;
        let Ok(Ok(mut response)) = sent else {
            return Err(None);
        };
        match response.status().as_u16() {
            206 => {}
            // The server ignored the range and sends the whole file.
            200 => partial.clear().map_err(Some)?,
            416 => {
                partial.clear().map_err(Some)?;
                return Err(None);
            }
            500.. => return Err(None),
            status => return Err(Some(self.status_error(&reference.repo, status, ""))),
        }
        partial.seek_to_end().map_err(Some)?;
        loop {
            let chunk = match tokio::time::timeout(STALL_TIMEOUT, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(_)) | Err(_) => return Err(None),
            };
            let missing =
                usize::try_from(remote.size - partial.present_bytes()).unwrap_or(usize::MAX);
            let chunk = chunk.get(..chunk.len().min(missing)).unwrap_or_default();
            partial.append(chunk).map_err(Some)?;
            on_progress(PullProgress::Received(partial.present_bytes()));
            if partial.present_bytes() >= remote.size {
                return Ok(());
            }
        }
    }
}
