//! The changes of files that a program made, as `strace` recorded them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The system calls that change files or move the position in them. Those with `?` do not
/// exist on every architecture.
const CALLS: &str = "?open,openat,?creat,write,pwrite64,writev,pwritev,lseek,ftruncate,truncate,\
    fallocate,copy_file_range,sendfile,dup,?dup2,dup3,fcntl,fsync,fdatasync,?rename,renameat,\
    renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat";

/// A change of a file below the recorded folder.
#[derive(Debug)]
pub(super) enum Event {
    /// The file exists, perhaps empty.
    Create {
        path: PathBuf,
    },
    /// Bytes at a position, or at the end.
    Write {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    SetLength {
        path: PathBuf,
        length: usize,
    },
    /// The file has another name, too.
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    /// The file's or folder's changes among the first `before` events are on the disk.
    Sync {
        path: PathBuf,
        before: usize,
    },
}

/// Runs a command and adds its changes below `root` to the events before it.
pub(super) fn record(command: &Command, root: &Path, events: &mut Vec<Event>) {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let folder = command.get_current_dir().unwrap().canonicalize().unwrap();
    let mut strace = Command::new("strace");
    strace
        // All threads; paths of descriptors; every string in hex and whole.
        .args(["-f", "-qq", "-y", "-xx", "-s", "16777216", "-e"])
        .arg(format!("trace={CALLS}"))
        .arg("-o")
        .arg(trace.path())
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap());
    }
    let output = strace.output().unwrap();
    // A batch with failed jobs exits with 1.
    assert!(
        output.status.code().is_some_and(|code| code <= 1),
        "{output:?}"
    );
    let mut parser = Parser {
        root: root.canonicalize().unwrap(),
        folder,
        positions: HashMap::new(),
        unfinished: HashMap::new(),
        events: std::mem::take(events),
    };
    for line in std::fs::read_to_string(trace.path()).unwrap().lines() {
        parser.line(line);
    }
    *events = parser.events;
}

struct Parser {
    root: PathBuf,
    /// The folder in which the program runs.
    folder: PathBuf,
    /// The position of each descriptor; `None` writes at the end.
    positions: HashMap<String, Option<usize>>,
    /// The start of a call that another thread interrupted, and the number of events then.
    unfinished: HashMap<String, (String, usize)>,
    events: Vec<Event>,
}

impl Parser {
    /// Reads `THREAD CALL(ARGUMENTS) = RESULT`, or one of the two parts of such a line.
    fn line(&mut self, line: &str) {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            let started = (start.to_owned(), self.events.len());
            self.unfinished.insert(thread.to_owned(), started);
            return;
        }
        let (call, before) = match call.split_once(" resumed>") {
            Some((_, end)) => {
                let (start, before) = self.unfinished.remove(thread).unwrap();
                (start + end, before)
            }
            None => (call.to_owned(), self.events.len()),
        };
        let Some((name, rest)) = call.split_once('(') else {
            return; // a signal or the end of a thread
        };
        let (arguments, result) = rest.rsplit_once(" = ").unwrap();
        let arguments = arguments.trim_end().strip_suffix(')').unwrap().trim_end();
        if !result.starts_with(['-', '?']) {
            self.call(name, arguments, result, before);
        }
    }

    fn call(&mut self, name: &str, arguments: &str, result: &str, before: usize) {
        // Strings are in hex, so that none contains a separator.
        let argument: Vec<&str> = arguments.split(", ").collect();
        let descriptor = |text: &str| text.split('<').next().unwrap().to_owned();
        match name {
            "open" | "openat" => self.open(arguments, result),
            "lseek" => {
                let position = Some(result.trim().parse().unwrap());
                if let Some(known @ Some(_)) = self.positions.get_mut(&descriptor(argument[0])) {
                    *known = position;
                }
            }
            "fcntl" if arguments.contains("F_DUPFD") => {
                let known = self.positions.get(&descriptor(argument[0])).copied();
                self.positions
                    .insert(descriptor(result), known.unwrap_or_default());
            }
            "fcntl" => {}
            "write" => {
                let Some(path) = self.inside(argument[0]) else {
                    return;
                };
                let bytes = unhex(argument[1].trim_matches('"'));
                let length: usize = result.trim().parse().unwrap();
                let position = self.positions.get_mut(&descriptor(argument[0])).unwrap();
                let at = *position;
                *position = at.map(|at| at + length);
                self.events.push(Event::Write {
                    path,
                    at,
                    bytes: bytes[..length].to_vec(),
                });
            }
            "ftruncate" => {
                if let Some(path) = self.inside(argument[0]) {
                    let length = argument[1].parse().unwrap();
                    self.events.push(Event::SetLength { path, length });
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(path) = self.inside(argument[0]) {
                    self.events.push(Event::Sync { path, before });
                }
            }
            "link" | "linkat" | "rename" | "renameat" | "renameat2" => {
                let [from, to]: [PathBuf; 2] = self.names(&argument).try_into().unwrap();
                if from.starts_with(&self.root) {
                    self.events.push(if name.starts_with("link") {
                        Event::Link { from, to }
                    } else {
                        Event::Rename { from, to }
                    });
                }
            }
            "unlink" | "unlinkat" => {
                let path = self.names(&argument)[0].clone();
                if path.starts_with(&self.root) {
                    self.events.push(Event::Remove { path });
                }
            }
            _ => {
                let is_inside = argument.iter().any(|text| self.inside(text).is_some())
                    || self
                        .names(&argument)
                        .iter()
                        .any(|path| path.starts_with(&self.root));
                assert!(!is_inside, "{name} is not known: {arguments}");
            }
        }
    }

    fn open(&mut self, arguments: &str, result: &str) {
        let Some(path) = self.inside(result) else {
            return;
        };
        let position = (!arguments.contains("O_APPEND")).then_some(0);
        let descriptor = result.split('<').next().unwrap().to_owned();
        self.positions.insert(descriptor, position);
        if arguments.contains("O_CREAT") {
            self.events.push(Event::Create { path: path.clone() });
        }
        if arguments.contains("O_TRUNC") {
            self.events.push(Event::SetLength { path, length: 0 });
        }
    }

    /// Returns the path of `NUMBER<PATH>` if it is below the recorded folder.
    fn inside(&self, descriptor: &str) -> Option<PathBuf> {
        let (_, path) = descriptor.split_once('<')?;
        let path = path.trim_end();
        let path = path.strip_suffix("(deleted)").unwrap_or(path);
        let path = text(path.strip_suffix('>')?);
        path.starts_with(&self.root).then_some(path)
    }

    /// Returns the quoted paths of a call.
    fn names(&self, arguments: &[&str]) -> Vec<PathBuf> {
        let quoted = arguments.iter().filter(|text| text.starts_with('"'));
        quoted
            .map(|path| self.folder.join(text(path.trim_matches('"'))))
            .collect()
    }
}

fn text(hex: &str) -> PathBuf {
    PathBuf::from(String::from_utf8(unhex(hex)).unwrap())
}

/// Decodes `\x41\x42`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}
