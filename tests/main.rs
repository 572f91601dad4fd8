//! One binary for all tests that look at the program from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may stop where it likes"
)]

/// Builds the packs that tests need.
mod guests;
/// A pack in another language than Rust.
mod javascript;
/// A Python with llama.cpp in it.
mod python;
/// Servers that tests talk to.
mod servers;
/// A folder of its own and a cleared environment for every run.
mod support;

/// `batch`: what runs, what is written, what survives.
mod batch;
/// Files as an earlier build wrote them: this build reads and continues them.
mod compatibility;
/// The demo model on texts that it has never seen.
mod demo;
/// The embedded engine: against llama.cpp, and on hostile files.
mod embedded;
/// Which server answers, what it is asked, and what comes of it.
mod engines;
/// Everything that a server does wrong.
mod faults;
/// `infer`: what goes where, and with which exit code.
mod infer;
/// `infer` against llama.cpp's own server.
mod llama_server;
/// The life of models: lists, loads, tests, what is remembered.
mod models;
/// One path for a job: `infer`, the library and `batch` come to the same outcome.
mod outcomes;
/// Packs that people drop into folders: finding, mixing, refusing.
mod packs;
/// `pull`: downloads from a hub that fails in every way.
mod pull;
/// The README's reference of commands and flags.
mod reference;
/// `render`: what would be sent.
mod render;
/// Packs that misbehave, at every entry.
mod sandbox;
/// What the rooms may know of each other.
mod tidy;
