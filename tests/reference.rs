//! The README's reference of commands and flags, held against `--help`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Machine;

/// Flags that every command has.
const COMMON: [&str; 4] = ["--config", "--verbose", "--quiet", "--help"];

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// Everything that looks like a long flag.
fn flags(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let before = text[..at].chars().next_back();
        let name: String = text[at + 2..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        if name.starts_with(|it: char| it.is_ascii_lowercase())
            && before.is_none_or(|it| !it.is_alphanumeric() && it != '-')
        {
            found.insert(format!("--{}", name.trim_end_matches('-')));
        }
    }
    found
}

/// The flags that `--help` defines: those at the beginning of a line.
fn defined(help: &str) -> BTreeSet<String> {
    help.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let line = match line.as_bytes() {
                [b'-', short, b',', b' ', ..] if short.is_ascii_alphabetic() => &line[4..],
                _ => line,
            };
            line.starts_with("--")
                .then(|| flags(line).into_iter().next())?
        })
        .collect()
}

#[test]
fn the_reference_names_every_command_and_flag_and_no_other() {
    let machine = Machine::without_cache();
    let help = machine.run(&["--help"]);
    let commands: Vec<String> = help
        .ok()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|it| !it.is_empty())
        .filter(|it| it.starts_with("  ") && !it.starts_with("   "))
        .filter_map(|it| it.split_whitespace().next().map(str::to_owned))
        .filter(|it| it != "help")
        .flat_map(|it| match it.as_str() {
            // Its own commands follow it.
            "batch" => ["", " status", " retry", " export", " merge"]
                .map(|after| format!("batch{after}"))
                .to_vec(),
            _ => vec![it],
        })
        .collect();
    assert!(commands.len() >= 14, "{commands:?}");
    let readme = readme();
    let (_, reference) = readme.split_once("## Reference").unwrap();
    let (reference, _) = reference.split_once("\n## ").unwrap();
    let mut named = Vec::new();
    for row in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        // Words before the first argument: `batch`, `batch status`.
        let words = cells[0].trim().trim_matches('`').split(' ');
        let words: Vec<&str> = words
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            .collect();
        let command = words.join(" ");
        let asked: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        let help = machine.run(&asked);
        let mut expected = defined(help.ok());
        for common in COMMON {
            let is_there = expected.remove(common);
            assert!(
                is_there || command == "completions",
                "{command} has no {common}"
            );
        }
        assert_eq!(flags(cells[1]), expected, "{command}");
        named.push(command);
    }
    assert_eq!(named, commands);
}
