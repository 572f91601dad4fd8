//! Measures lmstrix-host side by side with other programs and prints one Markdown table.
//!
//! ```text
//! cargo bench --locked --bench table
//! cargo bench --locked --bench table -- stream batch
//! ```
//!
//! Arguments select the groups of rows whose title contains one of them. Programs that are not
//! installed are left out and named below the table. The rows of models need a model file, which
//! the variable `LMSTRIX_BENCH_MODEL` names. Answers come from the fake LM Studio of the
//! tests, which runs in this process: it uses the same processors, but its CPU time does not
//! count for the programs.

mod batch;
mod compare;
mod dry_run;
mod launcher;
mod list;
mod machine;
mod model_files;
mod models;
mod peers;
mod prompt;
mod report;
mod sandbox;
mod start;
mod stream;
mod system;

#[path = "../../../../tests/servers/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "fake server of the tests, which may panic"
)]
mod servers;

#[path = "../timing/mod.rs"]
mod timing;

use peers::Peers;
use report::Row;
use timing::Failure;

/// Rows that are measured together.
struct Group {
    title: &'static str,
    rows: fn(&Peers) -> Result<Vec<Row>, Failure>,
}

const GROUPS: &[Group] = &[
    Group {
        title: "start",
        rows: start::rows,
    },
    Group {
        title: "short prompt",
        rows: prompt::rows,
    },
    Group {
        title: "stream",
        rows: stream::rows,
    },
    Group {
        title: "list",
        rows: list::rows,
    },
    Group {
        title: "batch of 10,000 jobs",
        rows: batch::large,
    },
    Group {
        title: "batch on four slots",
        rows: batch::slots,
    },
    Group {
        title: "batch of 100 jobs",
        rows: batch::small,
    },
    Group {
        title: "batch --dry-run",
        rows: dry_run::rows,
    },
    Group {
        title: "sandbox",
        rows: sandbox::rows,
    },
    Group {
        title: "models",
        rows: models::rows,
    },
];

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == launcher::FLAG
    {
        return launcher::run(rest);
    }
    // Cargo passes `--bench`.
    let words: Vec<String> = args
        .into_iter()
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let is_selected = |group: &&Group| {
        words.is_empty() || words.iter().any(|word| group.title.contains(word.as_str()))
    };
    let groups: Vec<&Group> = GROUPS.iter().filter(is_selected).collect();
    if groups.is_empty() {
        let titles: Vec<&str> = GROUPS.iter().map(|group| group.title).collect();
        let words = words.join("`, `");
        return Err(format!("no rows match `{words}`; groups: {}", titles.join(", ")).into());
    }

    let peers = Peers::find();
    let mut rows = Vec::new();
    let mut result = Ok(());
    for group in groups {
        report::progress(group.title);
        match (group.rows)(&peers) {
            Ok(measured) => rows.extend(measured),
            // The rows that are already measured are still printed.
            Err(e) => {
                result = Err(format!("{}: {e}", group.title).into());
                break;
            }
        }
    }
    report::print(&rows, &peers);
    result
}
