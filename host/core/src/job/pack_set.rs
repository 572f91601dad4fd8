//! The packs of one run: each is found and loaded once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lmstrix_sandbox::{
    Error, FoundPack, Pack, PackContents, PackFolders, PackLoader, PackRules, STANDARD_PACK,
    TextFile,
};

use super::Warning;

/// The packs of one run, by name.
pub struct PackSet {
    loader: Arc<PackLoader>,
    folders: PackFolders,
    stock: TextFile,
    rules: PackRules,
    loaded: BTreeMap<String, Pack>,
    described: Vec<Described>,
    warnings: Vec<Warning>,
}

/// The description of a pack.
struct Described {
    digest: String,
    /// The files that it was asked with.
    files: Vec<TextFile>,
    /// `None` if the pack failed.
    contents: Option<Arc<PackContents>>,
}

impl PackSet {
    /// Creates a set that has loaded nothing yet. `stock` holds the built-in prompts.
    #[must_use]
    pub fn new(loader: Arc<PackLoader>, folders: PackFolders, stock: TextFile) -> Self {
        Self {
            loader,
            folders,
            stock,
            rules: PackRules::default(),
            loaded: BTreeMap::new(),
            described: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Refuses packs that violate the rules.
    #[must_use]
    pub fn with_rules(self, rules: PackRules) -> Self {
        Self { rules, ..self }
    }

    /// Returns the file of the built-in prompts.
    #[must_use]
    pub fn stock(&self) -> &TextFile {
        &self.stock
    }

    /// Loads a pack of `--pack`: a file when it looks like one, else a name.
    ///
    /// # Errors
    /// Returns an error if there is no such pack, or if it does not load or is refused.
    pub fn take(&mut self, name_or_file: &str) -> Result<Pack, Error> {
        let path = Path::new(name_or_file);
        let is_file = path
            .extension()
            .is_some_and(|extension| extension == "wasm" || extension == "toml")
            || name_or_file.contains(std::path::is_separator);
        if !is_file {
            return self.get(name_or_file);
        }
        let found = FoundPack::of_file(path)?;
        self.rules.check_before_load(&found, self.loader.limits())?;
        let pack = self.loader.load_file(path)?;
        self.keep(pack.name().to_owned(), &pack)?;
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
    /// Returns an error if there is no such pack, or if it does not load or is refused.
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
                let others = match hidden.len() {
                    1 => "has the same name and is",
                    _ => "have the same name and are",
                };
                self.warn(format!(
                    "pack `{name}` is {}; {} {others} not used",
                    found.path.display(),
                    hidden.join(", ")
                ));
            }
            self.rules.check_before_load(&found, self.loader.limits())?;
            self.loader.load(&found)?
        };
        self.keep(name.to_owned(), &pack)?;
        Ok(pack)
    }

    /// Returns the contents that a pack declares. It is asked once for the same files.
    ///
    /// # Errors
    /// Returns an error if the pack fails or rejects a file.
    pub fn describe(
        &mut self,
        pack: &Pack,
        files: &[TextFile],
    ) -> Result<Arc<PackContents>, Error> {
        if let Some(Some(contents)) = self.known_description(pack, files) {
            return Ok(contents);
        }
        let described = pack.describe(files).map(Arc::new);
        self.described.push(Described {
            digest: pack.digest().to_owned(),
            files: files.to_vec(),
            contents: described.as_ref().ok().map(Arc::clone),
        });
        described
    }

    /// The same for checks that are left out if the pack cannot be described.
    pub(super) fn described(
        &mut self,
        pack: &Pack,
        files: &[TextFile],
    ) -> Option<Arc<PackContents>> {
        match self.known_description(pack, files) {
            Some(known) => known,
            None => self.describe(pack, files).ok(),
        }
    }

    /// Returns the contents of an earlier call; `Some(None)` if it failed.
    fn known_description(
        &self,
        pack: &Pack,
        files: &[TextFile],
    ) -> Option<Option<Arc<PackContents>>> {
        let mut known = self.described.iter();
        let known = known.find(|known| known.digest == pack.digest() && known.files == files)?;
        Some(known.contents.clone())
    }

    /// Returns the processors of the pack of that name; none if it cannot be described.
    pub(super) fn processor_names(&mut self, name: &str) -> Vec<String> {
        let Ok(pack) = self.get(name) else {
            return Vec::new();
        };
        let files = match pack.path() {
            Some(_) => pack.sidecar_files().to_vec(),
            None => vec![self.stock.clone()],
        };
        let contents = self.described(&pack, &files);
        let processors = contents.iter().flat_map(|contents| &contents.processors);
        processors.map(|processor| processor.name.clone()).collect()
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(Warning::Packs(text));
    }

    /// Returns the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn keep(&mut self, name: String, pack: &Pack) -> Result<(), Error> {
        self.rules.check(pack)?;
        for text in pack.skipped_files() {
            self.warn(text.clone());
        }
        self.loaded.insert(name, pack.clone());
        Ok(())
    }
}
