//! The table.

use std::fmt;

use crate::launcher::Cost;
use crate::models::MODEL_VARIABLE;
use crate::peers::{Peer, Peers, variable};
use crate::system;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: Vec<Figure>,
    /// Another program, or a name for a computed figure, and its figures. They are empty if the
    /// program is not installed.
    pub(crate) peer: Option<(&'static str, Vec<Figure>)>,
    /// The commands of lmstrix-host and of the other program.
    pub(crate) commands: Vec<String>,
}

/// A measured value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    WallSeconds(f64),
    CpuSeconds(f64),
    PeakBytes(f64),
    TokensPerSecond(f64),
    Count(usize),
    Factor(f64),
}

impl Figure {
    fn value(self) -> Option<f64> {
        match self {
            Self::WallSeconds(value)
            | Self::CpuSeconds(value)
            | Self::PeakBytes(value)
            | Self::TokensPerSecond(value) => Some(value),
            Self::Count(_) | Self::Factor(_) => None,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WallSeconds(value) => f.write_str(&seconds(value)),
            Self::CpuSeconds(value) => write!(f, "{} CPU", seconds(value)),
            Self::PeakBytes(value) => write!(f, "{:.0} MiB", value / f64::from(1 << 20)),
            Self::TokensPerSecond(value) => write!(f, "{value:.1} tokens/s"),
            Self::Count(value) => write!(f, "{value}"),
            Self::Factor(value) => write!(f, "{value:.1} times"),
        }
    }
}

/// Formats seconds with three significant digits.
fn seconds(value: f64) -> String {
    let (value, unit) = match value {
        value if value < 1e-3 => (value * 1e6, "µs"),
        value if value < 1.0 => (value * 1e3, "ms"),
        value => (value, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// Returns wall time and CPU time.
pub(crate) fn times(cost: &Cost) -> Vec<Figure> {
    vec![
        Figure::WallSeconds(cost.wall.as_secs_f64()),
        Figure::CpuSeconds(cost.cpu.as_secs_f64()),
    ]
}

/// Returns wall time, CPU time and peak memory.
pub(crate) fn times_and_memory(cost: &Cost) -> Vec<Figure> {
    let mut figures = times(cost);
    figures.push(memory(cost));
    figures
}

pub(crate) fn memory(cost: &Cost) -> Figure {
    Figure::PeakBytes(cost.peak_bytes as f64)
}

impl Row {
    /// Returns a row without another program.
    pub(crate) fn ours(what: &str, figures: Vec<Figure>, command: &str) -> Self {
        Self {
            what: what.to_owned(),
            ours: figures,
            peer: None,
            commands: vec![command.to_owned()],
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, ratio) = match &self.peer {
            None => (String::new(), String::new()),
            Some((name, figures)) if figures.is_empty() => (format!("{name}: -"), "-".to_owned()),
            Some((name, figures)) => {
                let ratios = self.ours.iter().zip(figures);
                let ratios =
                    ratios.filter_map(|(ours, peer)| Some(ours.value()? / peer.value()?.max(1e-9)));
                (
                    format!("{name}: {}", join(figures)),
                    join(ratios.map(format_ratio)),
                )
            }
        };
        let commands = self.commands.iter().filter(|command| !command.is_empty());
        let commands = join(commands.map(|command| format!("`{}`", command.replace('|', "\\|"))));
        let ours = join(&self.ours);
        let what = &self.what;
        write!(f, "| {what} | {ours} | {peer} | {ratio} | {commands} |")
    }
}

/// Formats a ratio with two decimals, or three if it is small.
fn format_ratio(ratio: f64) -> String {
    let decimals = if ratio < 0.1 { 3 } else { 2 };
    format!("{ratio:.decimals$}")
}

fn join(parts: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let parts: Vec<String> = parts.into_iter().map(|part| part.to_string()).collect();
    parts.join(", ")
}

/// Prints the table with the machine above it and the programs below it.
#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
pub(crate) fn print(rows: &[Row], peers: &Peers) {
    println!("{}\n", system::description());
    println!("| what | lmstrix-host | other program | ratio | commands |");
    println!("|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    println!("\nFigures are medians. Ratios are lmstrix-host to the other program.");
    let versions = peers.versions();
    if !versions.is_empty() {
        println!("Other programs: {}.", versions.join("; "));
    }
    let missing = peers.missing();
    if !missing.is_empty() {
        let install = |peer: &Peer| format!("{} (`{}`)", peer.name(), peer.install_command());
        println!("Not installed: {}.", join(missing.iter().map(install)));
    }
    if variable(MODEL_VARIABLE).is_none() {
        println!(
            "The rows of models are missing: set {MODEL_VARIABLE} to a GGUF file of the \
             architecture `llama`, such as SmolLM2 135M."
        );
    }
}

/// Prints the title of a group whose measurement starts.
#[expect(clippy::print_stderr, reason = "progress of a benchmark")]
pub(crate) fn progress(title: &str) {
    eprintln!("measuring: {title}");
}
