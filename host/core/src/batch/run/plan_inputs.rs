//! The inputs of a plan: texts, files, images and rows. Files that are results of the batch are
//! left out.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::event::SharedObserver;
use crate::batch::{self, Input, InputEntrySource, InputSource, Plan};
use crate::error::Error;
use crate::quantity::count;

/// Reads the inputs of a plan. Warns if files are left out because they are results.
pub(super) fn plan_inputs(
    plan: &Plan,
    out: &Path,
    observer: &SharedObserver,
) -> Result<Vec<Input>, Error> {
    let results = ResultFiles::of(out);
    let left_out = std::cell::Cell::new(0_usize);
    let skip = |path: &Path| {
        let is_result = results.contain(path);
        left_out.set(left_out.get() + usize::from(is_result));
        is_result
    };
    let here = Path::new("");
    let mut all = Vec::new();
    for entry in &plan.inputs {
        let mut inputs = match &entry.source {
            InputEntrySource::Files(path) => {
                batch::text_files(here, path, &skip).map_err(of_input)?
            }
            InputEntrySource::RowsOrFiles(path) => {
                let note = |text: &str| observer.warning(text);
                batch::read_inputs(here, path, &skip, &note).map_err(of_input)?
            }
            InputEntrySource::Images { name, paths } => {
                let mut inputs = Vec::new();
                for path in paths {
                    let images = batch::images(here, path, &skip);
                    inputs.extend(images.map_err(of_input)?);
                }
                match name {
                    None => inputs,
                    Some(name) => vec![Input {
                        attachments: inputs
                            .into_iter()
                            .flat_map(|input| input.attachments)
                            .collect(),
                        ..Input::new(name, InputSource::Images)
                    }],
                }
            }
            InputEntrySource::Text { name, text } => {
                vec![Input::new(name, InputSource::Text(text.clone()))]
            }
        };
        for path in &entry.attach {
            let attachments = batch::attachments(here, path, &skip);
            let attachments = attachments.map_err(of_input)?;
            for input in &mut inputs {
                input.attachments.extend(attachments.iter().cloned());
            }
        }
        all.extend(inputs);
    }
    if left_out.get() > 0 {
        observer.warning(&format!(
            "ignoring {} that a pattern matches, since {} of this batch",
            count(left_out.get(), "file"),
            if left_out.get() == 1 {
                "it is a result"
            } else {
                "they are results"
            }
        ));
    }
    if all.is_empty() && !plan.inputs.is_empty() {
        // Without inputs each prompt would be sent once, without any text.
        return Err(Error::usage("all inputs are results of this batch"));
    }
    batch::with_distinct_names(all).map_err(of_input)
}

/// The results of earlier runs, which are not inputs even if a pattern matches them.
struct ResultFiles {
    folder: Option<PathBuf>,
    jobs: Vec<String>,
}

impl ResultFiles {
    fn of(out: &Path) -> Self {
        let folder = fs::canonicalize(out).ok();
        let history = folder
            .as_deref()
            .and_then(|folder| batch::read_history(folder).ok());
        let jobs = history.map(|history| history.jobs.into_keys().collect());
        Self {
            folder,
            jobs: jobs.unwrap_or_default(),
        }
    }

    /// Returns whether a file is a result, or is kept beside one.
    fn contain(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else {
            return false;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.folder.is_some()
            && path.parent() == self.folder.as_deref()
            && self.jobs.iter().any(|job| name.starts_with(job.as_str()))
    }
}

/// Returns the error of an input with its hint.
pub(super) fn of_input(error: batch::InputError) -> Error {
    Error::usage(crate::error_chain::error_chain(&error)).optional_hint(error.hint())
}
