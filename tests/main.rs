//! Integration tests that run the program. A single binary, because linking takes long.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and print"
)]

/// Builds the packs for tests.
mod guests;
/// Runs Python, Node.js and their installers.
mod outside_program;
/// A Python environment with llama.cpp.
mod python;
/// Test servers.
mod servers;
/// Runs the program in a temporary folder with a cleared environment.
mod support;

/// Images that are sent with prompts.
mod attachments;
/// Odd environments, limits and terminals. Unix only: most tests need its shell and limits.
#[cfg(unix)]
mod attack;
/// `batch`: plans, results, faults, kills and resuming.
mod batch;
/// Files of an earlier build, which this build must read and continue.
mod compatibility;
/// The demo model on texts that are not in its training data.
mod demo;
/// Which requests find out what kind of server listens at an address.
mod detection;
/// The embedded engine: comparison with llama.cpp, and malformed files.
mod embedded;
/// Engine selection, requests to servers, and their answers.
mod engines;
/// Faults of servers.
mod faults;
/// `infer`: outputs and exit codes.
mod infer;
/// Models that several processes use.
mod leases;
/// `infer` with llama.cpp's server. Unix only: so is the layout of its Python environment.
#[cfg(unix)]
mod llama_server;
/// llama-servers that the program starts. Unix only: most tests run shell scripts.
#[cfg(unix)]
mod managed_server;
/// The commands that manage models, and the registry.
mod models;
/// Files that use each other in a circle.
mod module_cycles;
/// Files and answers with random changes.
mod mutations;
/// `pack new`: projects in all languages, and the examples. Unix only: it runs shell scripts.
#[cfg(unix)]
mod new_packs;
/// A job has the same outcome in `infer`, the library and `batch`. Unix only: one scenario
/// sends SIGINT.
#[cfg(unix)]
mod outcomes;
/// `pack`: lists, shows and checks packs.
mod pack_command;
/// Prompts of other programs become prompt files.
mod pack_import;
/// The output of packs, and their errors.
mod pack_output;
/// Packs are copied, and compared with their lock file.
mod pack_sharing;
/// Packs in folders: finding, combining and rejecting them.
mod packs;
/// Power cuts. Linux only: so is strace.
#[cfg(target_os = "linux")]
mod power_cuts;
/// `pull`: downloads, and faults of the hub.
mod pull;
/// The README's reference of commands and flags matches the program.
mod reference;
/// `render`: resolved prompts.
mod render;
/// Misbehaving packs.
mod sandbox;
/// Copies and built files in the folders of crates match their originals.
mod shipped_files;
/// The structure of the source.
mod tidy;
/// Servers behind TLS and gateways.
mod tls;
/// What real servers do differently: addresses, lists, refusals, compression, counts.
mod wire_quirks;
