//! The states that a power cut can leave of recorded changes.
//!
//! The changes of one file's content are written in their order, and so are the changes of
//! one folder's names; between files and folders there is no order. A sync writes all earlier
//! changes of its file or folder. After a cut, each has its synced changes and any number of
//! the next ones, the last of them perhaps by half.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::trace::Event;

/// The files by path.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Changes that are written in an order of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stream {
    /// The content of a file, whatever its name is.
    Content(usize),
    /// The names in a folder.
    Names(PathBuf),
}

#[derive(Debug)]
enum Change {
    Name { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    Write { at: Option<usize>, bytes: Vec<u8> },
    SetLength { length: usize },
}

/// A step of the recording.
#[derive(Debug)]
enum Step {
    Change(Change),
    /// The changes among the first `before` steps are on the disk.
    Sync {
        before: usize,
    },
}

/// A recording on top of the files that existed before.
pub(super) struct Recording {
    /// Names and contents before; the index is the number of the file.
    existing: Vec<(PathBuf, Vec<u8>)>,
    steps: Vec<(Stream, Step)>,
}

/// The changes of a stream that a cut leaves.
#[derive(Clone, Copy)]
struct Kept {
    changes: usize,
    /// The last of them is written by half.
    is_torn: bool,
}

impl Recording {
    pub(super) fn new(existing: Files, events: Vec<Event>) -> Self {
        let mut recording = Self {
            existing: existing.into_iter().collect(),
            steps: Vec::new(),
        };
        let mut names: HashMap<PathBuf, usize> = recording
            .existing
            .iter()
            .enumerate()
            .map(|(file, (path, _))| (path.clone(), file))
            .collect();
        let mut next_file = names.len();
        // The number of the steps before each event.
        let mut steps_before = Vec::new();
        for event in events {
            steps_before.push(recording.steps.len());
            recording.add(event, &mut names, &mut next_file, &steps_before);
        }
        recording
    }

    fn add(
        &mut self,
        event: Event,
        names: &mut HashMap<PathBuf, usize>,
        next_file: &mut usize,
        steps_before: &[usize],
    ) {
        let folder = |path: &Path| Stream::Names(path.parent().unwrap().to_owned());
        let (stream, step) = match event {
            Event::Create { path } => {
                if names.contains_key(&path) {
                    return;
                }
                let file = *next_file;
                *next_file += 1;
                names.insert(path.clone(), file);
                (folder(&path), Step::Change(Change::Name { path, file }))
            }
            Event::Write { path, at, bytes } => {
                // A removed file that is still open has no name.
                let Some(file) = names.get(&path) else { return };
                let change = Change::Write { at, bytes };
                (Stream::Content(*file), Step::Change(change))
            }
            Event::SetLength { path, length } => {
                let Some(file) = names.get(&path) else { return };
                let change = Change::SetLength { length };
                (Stream::Content(*file), Step::Change(change))
            }
            Event::Link { from, to } => {
                let file = names[&from];
                names.insert(to.clone(), file);
                (folder(&to), Step::Change(Change::Name { path: to, file }))
            }
            Event::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent());
                let file = names.remove(&from).unwrap();
                names.insert(to.clone(), file);
                (folder(&from), Step::Change(Change::Rename { from, to }))
            }
            Event::Remove { path } => {
                names.remove(&path);
                (folder(&path), Step::Change(Change::Remove { path }))
            }
            Event::Sync { path, before } => {
                let stream = match names.get(&path) {
                    Some(file) => Stream::Content(*file),
                    None => {
                        assert!(path.is_dir(), "{} is not known", path.display());
                        Stream::Names(path)
                    }
                };
                let before = steps_before.get(before).copied().unwrap_or(0);
                (stream, Step::Sync { before })
            }
        };
        self.steps.push((stream, step));
    }

    /// Returns every state that a cut can leave if it loses any number of changes of one file
    /// or folder, and all or none of the others. Other combinations are left out: they are
    /// too many.
    pub(super) fn states(&self) -> BTreeSet<Files> {
        let mut states = BTreeSet::new();
        for cut in 0..=self.steps.len() {
            let streams = self.streams(cut);
            let all = |(synced, made): (usize, usize), is_kept: bool| Kept {
                changes: if is_kept { made } else { synced },
                is_torn: false,
            };
            for are_others_kept in [false, true] {
                let others: HashMap<Stream, Kept> = streams
                    .iter()
                    .map(|(stream, counts)| (stream.clone(), all(*counts, are_others_kept)))
                    .collect();
                states.insert(self.state(cut, &others));
                for (stream, (synced, made)) in &streams {
                    for changes in *synced..=*made {
                        for is_torn in [false, true] {
                            let mut kept = others.clone();
                            let is_torn = is_torn && changes > *synced;
                            kept.insert(stream.clone(), Kept { changes, is_torn });
                            states.insert(self.state(cut, &kept));
                        }
                    }
                }
            }
        }
        states
    }

    /// Returns how many changes of each stream are synced, and how many are made, after a
    /// number of steps.
    fn streams(&self, cut: usize) -> HashMap<Stream, (usize, usize)> {
        let mut streams = HashMap::new();
        for (at, (stream, step)) in self.steps[..cut].iter().enumerate() {
            match step {
                Step::Change(_) => streams.entry(stream.clone()).or_insert((0, 0)).1 += 1,
                Step::Sync { before } => {
                    let until = &self.steps[..(*before).min(at)];
                    let synced = until
                        .iter()
                        .filter(|(other, step)| other == stream && matches!(step, Step::Change(_)))
                        .count();
                    let counts = streams.entry(stream.clone()).or_insert((0, 0));
                    counts.0 = counts.0.max(synced);
                }
            }
        }
        streams
    }

    fn state(&self, cut: usize, kept: &HashMap<Stream, Kept>) -> Files {
        let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut contents: HashMap<usize, Vec<u8>> = HashMap::new();
        for (file, (path, content)) in self.existing.iter().enumerate() {
            names.insert(path.clone(), file);
            contents.insert(file, content.clone());
        }
        let mut done: HashMap<&Stream, usize> = HashMap::new();
        for (stream, step) in &self.steps[..cut] {
            let Step::Change(change) = step else { continue };
            let number = done.entry(stream).or_default();
            *number += 1;
            let kept = kept[stream];
            if *number > kept.changes {
                continue;
            }
            let is_torn = kept.is_torn && *number == kept.changes;
            match (change, stream) {
                (Change::Name { path, file }, _) => {
                    names.insert(path.clone(), *file);
                }
                (Change::Rename { from, to }, _) => {
                    let file = names.remove(from).unwrap();
                    names.insert(to.clone(), file);
                }
                (Change::Remove { path }, _) => {
                    names.remove(path);
                }
                (Change::Write { at, bytes }, Stream::Content(file)) => {
                    let content = contents.entry(*file).or_default();
                    let at = at.unwrap_or(content.len());
                    let length = if is_torn {
                        bytes.len() / 2
                    } else {
                        bytes.len()
                    };
                    content.resize(content.len().max(at + length), 0);
                    content[at..at + length].copy_from_slice(&bytes[..length]);
                }
                (Change::SetLength { length }, Stream::Content(file)) => {
                    contents.entry(*file).or_default().resize(*length, 0);
                }
                (_, Stream::Names(_)) => panic!("{change:?} of a folder"),
            }
        }
        names
            .into_iter()
            .map(|(path, file)| (path, contents.get(&file).cloned().unwrap_or_default()))
            .collect()
    }
}
