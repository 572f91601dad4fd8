//! The packs of one run: each is found and loaded once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lmstrix_sandbox::{Error, Pack, PackFolders, PackLoader, STANDARD_PACK, TextFile};

use super::Warning;

/// The packs of one run, by name.
pub struct PackSet {
    loader: Arc<PackLoader>,
    folders: PackFolders,
    stock: TextFile,
    loaded: BTreeMap<String, Pack>,
    warnings: Vec<Warning>,
}

impl PackSet {
    /// Creates a set that has loaded nothing yet. `stock` holds the built-in prompts.
    #[must_use]
    pub fn new(loader: Arc<PackLoader>, folders: PackFolders, stock: TextFile) -> Self {
        Self {
            loader,
            folders,
            stock,
            loaded: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the file of the built-in prompts.
    #[must_use]
    pub fn stock(&self) -> &TextFile {
        &self.stock
    }

    /// Loads a pack of `--pack`: a file when it looks like one, else a name.
    ///
    /// # Errors
    /// Returns an error if there is no such pack, or if it does not load.
    pub fn take(&mut self, name_or_file: &str) -> Result<Pack, Error> {
        let path = Path::new(name_or_file);
        let is_file = path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            || name_or_file.contains(std::path::is_separator);
        if !is_file {
            return self.get(name_or_file);
        }
        let pack = self.loader.load_file(path)?;
        self.keep(pack.name().to_owned(), &pack);
        Ok(pack)
    }

    /// Returns whether a folder has a pack of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.folders.find(name).is_ok()
    }

    /// Returns the pack of that name, and loads it on the first call.
    ///
    /// # Errors
    /// Returns an error if there is no such pack, or if it does not load.
    pub fn get(&mut self, name: &str) -> Result<Pack, Error> {
        if let Some(pack) = self.loaded.get(name) {
            return Ok(pack.clone());
        }
        let pack = if name == STANDARD_PACK {
            self.loader.load_standard()?
        } else {
            let found = self.folders.find(name)?;
            if !found.shadowed.is_empty() {
                let hidden: Vec<String> = found
                    .shadowed
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                self.warn(format!(
                    "pack `{name}` is {}; {} has the same name and is not used",
                    found.path.display(),
                    hidden.join(", ")
                ));
            }
            self.loader.load(&found)?
        };
        self.keep(name.to_owned(), &pack);
        Ok(pack)
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(Warning::Packs(text));
    }

    /// Returns the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn keep(&mut self, name: String, pack: &Pack) {
        for text in pack.skipped_files() {
            self.warn(text.clone());
        }
        self.loaded.insert(name, pack.clone());
    }
}
