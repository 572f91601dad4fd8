//! Compares the README's reference of commands and flags with `--help`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Machine;

/// Flags that every command has.
const COMMON: [&str; 4] = ["--config", "--verbose", "--quiet", "--help"];

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// Returns everything that looks like a long flag.
fn long_flags(text: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let before = text[..at].chars().next_back();
        let name: String = text[at + 2..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        if name.starts_with(|c: char| c.is_ascii_lowercase())
            && before.is_none_or(|c| !c.is_alphanumeric() && c != '-')
        {
            flags.insert(format!("--{}", name.trim_end_matches('-')));
        }
    }
    flags
}

/// Returns the flags that `--help` defines, which are at the beginning of a line.
fn defined_flags(help: &str) -> BTreeSet<String> {
    help.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let line = match line.as_bytes() {
                [b'-', short, b',', b' ', ..] if short.is_ascii_alphabetic() => &line[4..],
                _ => line,
            };
            line.starts_with("--")
                .then(|| long_flags(line).into_iter().next())?
        })
        .collect()
}

#[test]
fn the_readme_reference_matches_all_commands_and_flags() {
    let machine = Machine::without_cache();
    let help = machine.run(&["--help"]);
    let commands: Vec<String> = help
        .ok()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|command| command != "help")
        .flat_map(|command| match command.as_str() {
            "pack" => [
                "new", "list", "show", "check", "test", "wit", "add", "pull", "push", "update",
                "remove", "verify", "lock", "import",
            ]
            .map(|subcommand| format!("pack {subcommand}"))
            .to_vec(),
            "batch" => ["", " status", " retry", " export", " merge"]
                .map(|subcommand| format!("batch{subcommand}"))
                .to_vec(),
            _ => vec![command],
        })
        .collect();
    assert!(commands.len() >= 14, "{commands:?}");
    let readme = readme();
    let (_, reference) = readme.split_once("## Reference").unwrap();
    let (reference, _) = reference.split_once("\n## ").unwrap();
    let mut documented = Vec::new();
    for row in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        // The words before the first argument: `batch`, `batch status`.
        let words = cells[0].trim().trim_matches('`').split(' ');
        let words: Vec<&str> = words
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            .collect();
        let command = words.join(" ");
        let args: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        let help = machine.run(&args);
        let mut expected = defined_flags(help.ok());
        for common in COMMON {
            let has_common = expected.remove(common);
            assert!(
                has_common || command == "completions",
                "{command} has no {common}"
            );
        }
        assert_eq!(long_flags(cells[1]), expected, "{command}");
        documented.push(command);
    }
    assert_eq!(documented, commands);
}

#[test]
fn the_readme_has_all_limits_with_their_defaults() {
    let readme = readme();
    let (_, config) = readme.split_once("## Configuration").unwrap();
    let (_, block) = config.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let config: toml::Table = toml::from_str(block).unwrap();
    let limits = config["limits"].as_table().unwrap();
    assert_eq!(limits.len(), 14);
    let parsed: lmstrix_sandbox::SandboxLimits = limits.clone().try_into().unwrap();
    assert_eq!(parsed, lmstrix_sandbox::SandboxLimits::default());
}
