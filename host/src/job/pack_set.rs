//! The packs of one run: each is found and loaded once.

use std::collections::BTreeMap;
use std::path::Path;

use crate::pack::{Error, Folders, Pack, Packs, STANDARD};

/// The packs of one run, by name.
pub struct PackSet {
    packs: Packs,
    folders: Folders,
    loaded: BTreeMap<String, Pack>,
    /// What the user should know about what was found.
    pub warnings: Vec<String>,
}

impl PackSet {
    /// Nothing is loaded yet.
    #[must_use]
    pub fn new(packs: Packs, folders: Folders) -> Self {
        Self {
            packs,
            folders,
            loaded: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes a pack by `--pack`: a file when it looks like one, else a name.
    ///
    /// # Errors
    /// There is no such pack, or it does not load.
    pub fn take(&mut self, name_or_file: &str) -> Result<Pack, Error> {
        let path = Path::new(name_or_file);
        let is_file = path.extension().is_some_and(|it| it == "wasm")
            || name_or_file.contains(std::path::is_separator);
        if !is_file {
            return self.get(name_or_file);
        }
        let pack = self.packs.load_file(path)?;
        self.warnings.extend(pack.left_out().iter().cloned());
        self.loaded.insert(pack.name().to_owned(), pack.clone());
        Ok(pack)
    }

    /// Whether some folder has a pack of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.folders.find(name).is_ok()
    }

    /// The pack of that name, loaded if need be.
    ///
    /// # Errors
    /// There is no such pack, or it does not load.
    pub fn get(&mut self, name: &str) -> Result<Pack, Error> {
        if let Some(pack) = self.loaded.get(name) {
            return Ok(pack.clone());
        }
        let pack = if name == STANDARD {
            self.packs.standard()?
        } else {
            let found = self.folders.find(name)?;
            if !found.hidden.is_empty() {
                let hidden: Vec<String> = found
                    .hidden
                    .iter()
                    .map(|it| it.display().to_string())
                    .collect();
                self.warnings.push(format!(
                    "pack `{name}` is {}; {} has the same name and is not used",
                    found.path.display(),
                    hidden.join(", ")
                ));
            }
            self.packs.load(&found)?
        };
        self.warnings.extend(pack.left_out().iter().cloned());
        self.loaded.insert(name.to_owned(), pack.clone());
        Ok(pack)
    }
}
