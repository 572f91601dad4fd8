//! No file of a crate uses a file that uses it, directly or through others. Read from the
//! `use` statements; a re-export counts as a use of the file that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{SOURCES, sources};

type Module = Vec<String>;

/// The `use` statements of a file.
#[derive(Default)]
struct Imports {
    /// The paths that the file uses, from the root of the crate.
    uses: Vec<Module>,
    /// The names that the file exports again, with their paths.
    exports: BTreeMap<String, Module>,
}

/// Returns the module of a file, by its path below `src`.
fn module(path: &std::path::Path) -> Module {
    let mut parts: Module = path
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        parts.pop();
    }
    parts
}

/// Returns the paths of `a::{b, c::{d, e}}`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        if !path.is_empty() {
            paths.push(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{head}");
    let list = rest.trim_end().strip_suffix('}').unwrap();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &list[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &list[start..], paths);
}

/// Returns a path from the root of the crate; `None` for a path of another crate.
fn absolute(path: &str, module: &Module, all: &BTreeSet<Module>) -> Option<Module> {
    let mut parts: Vec<&str> = path.split("::").collect();
    if parts.last() == Some(&"self") {
        parts.pop();
    }
    let mut base = module.clone();
    match parts.first().copied()? {
        "crate" => {
            base.clear();
            parts.remove(0);
        }
        "super" => {
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
        }
        first => {
            let child = [module.as_slice(), &[first.to_owned()]].concat();
            if !all.contains(&child) {
                return None;
            }
        }
    }
    base.extend(parts.into_iter().map(str::to_owned));
    Some(base)
}

fn imports(text: &str, module: &Module, all: &BTreeSet<Module>) -> Imports {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let mut imports = Imports::default();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = rest[line..at].trim_end();
        let is_statement = before.is_empty() || before.starts_with("pub") && !before.contains(' ');
        let Some(end) = rest[at..].find(';') else {
            break;
        };
        if is_statement {
            let mut paths = Vec::new();
            expand("", &rest[at + "use ".len()..at + end], &mut paths);
            for path in paths.iter().filter_map(|path| absolute(path, module, all)) {
                if before.is_empty() {
                    imports.uses.push(path);
                } else if let Some(name) = path.last() {
                    imports.exports.insert(name.clone(), path.clone());
                }
            }
            rest = &rest[at + end..];
        } else {
            rest = &rest[at + "use ".len()..];
        }
    }
    imports
}

/// Returns the file that defines the end of a path, through re-exports.
fn definition(path: &Module, files: &BTreeMap<Module, Imports>, depth: usize) -> Option<Module> {
    if files.contains_key(path) || depth == 0 {
        return Some(path.clone());
    }
    let (name, parent) = path.split_last()?;
    let parent = parent.to_vec();
    match files.get(&parent) {
        Some(imports) => match imports.exports.get(name) {
            Some(exported) if exported != path => definition(exported, files, depth - 1),
            _ => Some(parent),
        },
        None => definition(&parent, files, depth - 1),
    }
}

/// Returns the files on a way from `from` back to it.
fn cycle(from: &Module, uses: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn visit(
        at: &Module,
        goal: &Module,
        uses: &BTreeMap<Module, BTreeSet<Module>>,
        seen: &mut BTreeSet<Module>,
    ) -> Option<Vec<Module>> {
        for next in uses.get(at).into_iter().flatten() {
            if next == goal {
                return Some(vec![at.clone()]);
            }
            if seen.insert(next.clone())
                && let Some(mut way) = visit(next, goal, uses, seen)
            {
                way.push(at.clone());
                return Some(way);
            }
        }
        None
    }
    visit(from, from, uses, &mut BTreeSet::new())
}

#[test]
fn no_file_uses_itself_through_others() {
    for of in SOURCES {
        let sources: Vec<(Module, String)> = sources(of)
            .into_iter()
            .filter(|(path, _)| !path.to_str().unwrap().ends_with("tests.rs"))
            .map(|(path, text)| (module(&path), text))
            .collect();
        let all: BTreeSet<Module> = sources.iter().map(|(module, _)| module.clone()).collect();
        let files: BTreeMap<Module, Imports> = sources
            .iter()
            .map(|(module, text)| (module.clone(), imports(text, module, &all)))
            .collect();
        let uses: BTreeMap<Module, BTreeSet<Module>> = files
            .iter()
            .map(|(module, imports)| {
                let used = imports.uses.iter();
                let used = used.filter_map(|path| definition(path, &files, 8));
                let used = used.filter(|used| used != module && !used.is_empty());
                (module.clone(), used.collect())
            })
            .collect();
        let arrows: usize = uses.values().map(BTreeSet::len).sum();
        assert!(arrows * 3 >= files.len(), "{of}: found only {arrows} uses");
        for module in files.keys() {
            let way = cycle(module, &uses);
            assert!(way.is_none(), "{of}: {way:?}");
        }
    }
}

#[test]
fn a_cycle_through_a_re_export_is_found() {
    let texts = [
        ("a", "mod b;\npub use b::{B, other::C};\nuse crate::c::D;\n"),
        ("a::b", "use super::super::c::{self, D};\n"),
        ("c", "use crate::a::B;\n"),
    ];
    let name = |name: &str| -> Module { name.split("::").map(str::to_owned).collect() };
    let all: BTreeSet<Module> = texts.iter().map(|(module, _)| name(module)).collect();
    let files: BTreeMap<Module, Imports> = texts
        .iter()
        .map(|(module, text)| (name(module), imports(text, &name(module), &all)))
        .collect();
    let uses: BTreeMap<Module, BTreeSet<Module>> = files
        .iter()
        .map(|(module, imports)| {
            let used = imports.uses.iter();
            let used = used.filter_map(|path| definition(path, &files, 8));
            (module.clone(), used.collect())
        })
        .collect();
    assert!(uses[&name("c")].contains(&name("a::b")), "{uses:?}");
    let way = cycle(&name("c"), &uses).unwrap();
    assert_eq!(way, [name("a::b"), name("c")]);
    assert!(cycle(&name("a"), &uses).is_none());
}
