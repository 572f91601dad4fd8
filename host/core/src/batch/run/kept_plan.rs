//! The plan as it is printed and kept in the journal.

use std::path::{Path, PathBuf};

use lmstrix_inference::SettingsLayer;

use crate::batch::{self, InputEntrySource, Plan, PromptOptions};

/// Returns the plan with the settings of the command line in it. A run keeps the two
/// apart, so that the command line wins.
#[must_use]
pub fn with_settings(plan: &Plan, flags: &SettingsLayer) -> Plan {
    let mut plan = plan.clone();
    plan.settings = flags.clone().over(plan.settings);
    // A flag also wins over the plan's settings for some prompts or models.
    let prompts = plan.prompts.iter_mut().map(|prompt| &mut prompt.settings);
    let models = plan.overrides.iter_mut().map(|model| &mut model.settings);
    for settings in prompts.chain(models) {
        let is_overridden = settings
            .names()
            .iter()
            .any(|name| flags.names().contains(name));
        if is_overridden {
            *settings = flags.clone().over(std::mem::take(settings));
        }
    }
    plan
}

/// Returns the plan with absolute paths, since a later command may start in another
/// folder.
pub(super) fn absolute(plan: &Plan) -> Plan {
    fn make_absolute(path: &mut PathBuf) {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
    fn make_options_absolute(options: &mut PromptOptions) {
        options.prompt_files.iter_mut().for_each(make_absolute);
        options.pack_files.iter_mut().for_each(make_absolute);
        options.pack_dirs.iter_mut().for_each(make_absolute);
        options.attach.iter_mut().for_each(make_absolute);
        for pack in &mut options.packs {
            let is_file = pack.ends_with(".wasm") || pack.contains(std::path::is_separator);
            if is_file && let Ok(path) = std::path::absolute(Path::new(pack)) {
                *pack = path.to_string_lossy().into_owned();
            }
        }
    }
    let mut plan = plan.clone();
    plan.out.iter_mut().for_each(make_absolute);
    make_options_absolute(&mut plan.defaults);
    plan.prompts
        .iter_mut()
        .for_each(|prompt| make_options_absolute(&mut prompt.options));
    for model in &mut plan.models {
        if model.ends_with(".gguf")
            && let Ok(path) = std::path::absolute(Path::new(model))
        {
            *model = path.to_string_lossy().into_owned();
        }
    }
    for input in &mut plan.inputs {
        let paths = match &mut input.source {
            InputEntrySource::Files(path) | InputEntrySource::RowsOrFiles(path) => {
                std::slice::from_mut(path)
            }
            InputEntrySource::Images { paths, .. } => paths,
            InputEntrySource::Text { .. } => &mut [],
        };
        for path in paths.iter_mut().chain(&mut input.attach) {
            if path.is_relative()
                && let Ok(here) = std::path::absolute(".")
            {
                *path = batch::join_pattern(&here, &path.to_string_lossy());
            }
        }
    }
    // `./packs` is searched where the first run started.
    let mut packs = PathBuf::from("packs");
    make_absolute(&mut packs);
    if packs.is_dir() && !plan.defaults.pack_dirs.contains(&packs) {
        plan.defaults.pack_dirs.insert(0, packs);
    }
    plan
}
