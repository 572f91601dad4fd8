//! `pack show`: what a pack declares, and what belongs to it.

use std::fmt::Write;

use lmstrix::job::PackSet;
use lmstrix_sandbox::{ByteSize, Pack, PackContents, PackItemInfo, ParamInfo, STANDARD_WASM};
use serde::Serialize;

use super::{Setup, load};
use crate::args::PackShowArgs;
use crate::command::models::{print, print_json};
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// The prefix of the contract's interfaces.
const CONTRACT: &str = "lmstrix:prompts/";

/// Output of `pack show --json`.
#[derive(Serialize)]
struct ShownPack {
    schema: u32,
    name: String,
    path: Option<String>,
    size_bytes: u64,
    /// Digest of the component.
    sha256: String,
    /// Digest of the pack with its files, for pins.
    digest: String,
    /// The interfaces of the contract, with their version.
    contract: Vec<String>,
    imports: Vec<String>,
    /// The files that are passed to the pack.
    files: Vec<String>,
    #[serde(flatten)]
    contents: PackContents,
}

/// Runs `pack show`.
///
/// # Errors
/// Returns an error if the pack cannot be loaded or described.
pub(super) async fn show(args: PackShowArgs, env: &Env) -> Result<Exit, Failure> {
    let setup = Setup::new(&args.common, env)?;
    let name = args.which.pack;
    let describe = move |packs: &mut PackSet| {
        let (pack, files) = load(packs, &name)?;
        let contents = pack.describe(&files)?;
        Ok((pack, contents))
    };
    let (pack, contents) = setup.with_packs(&args.which.pack_dir, describe).await?;
    let shown = ShownPack::new(&pack, contents);
    if args.json {
        print_json(&shown, env)?;
    } else {
        print(&shown.text())?;
    }
    Ok(Exit::Done)
}

impl ShownPack {
    fn new(pack: &Pack, contents: PackContents) -> Self {
        let size = pack.path().map(std::fs::metadata).and_then(Result::ok);
        let contract = pack.exports().iter();
        Self {
            schema: 1,
            name: pack.name().to_owned(),
            path: pack.path().map(|path| path.display().to_string()),
            size_bytes: size.map_or(STANDARD_WASM.len() as u64, |file| file.len()),
            sha256: pack.digest().to_owned(),
            digest: pack.digests().of_pack().to_string(),
            contract: contract
                .filter(|name| name.starts_with(CONTRACT))
                .cloned()
                .collect(),
            imports: pack.imports().to_vec(),
            files: pack
                .sidecar_files()
                .iter()
                .map(|file| file.display_path.clone())
                .collect(),
            contents,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n\n", self.name, self.contents.summary);
        for (key, value) in [
            ("file", self.path.clone().unwrap_or("built in".to_owned())),
            ("size", ByteSize(self.size_bytes).to_string()),
            ("digest", self.digest.clone()),
            ("contract", self.contract.join(", ")),
            ("imports", self.imports.join(", ")),
            ("files", self.files.join(", ")),
        ] {
            if !value.is_empty() {
                let _infallible = writeln!(text, "{key:<9} {value}");
            }
        }
        for (kind, flag, items) in [
            ("prompts", "-p", &self.contents.prompts),
            ("processors", "option", &self.contents.processors),
        ] {
            if !items.is_empty() {
                let _infallible = writeln!(text, "\n{kind}");
            }
            for item in items {
                self.write_item(item, flag, &mut text);
            }
        }
        text
    }

    fn write_item(&self, item: &PackItemInfo, flag: &str, text: &mut String) {
        let _infallible = writeln!(text, "  {}/{}: {}", self.name, item.name, item.summary);
        for param in &item.params {
            let _infallible = writeln!(text, "    {flag} {}", param_text(param));
        }
        if item.any_params {
            let _infallible = writeln!(text, "    {flag} any other name");
        }
    }
}

fn param_text(param: &ParamInfo) -> String {
    let ParamInfo {
        name,
        summary,
        required,
        default,
    } = param;
    let value = match (default, required) {
        (Some(default), _) => format!(" [default: {default}]"),
        (None, true) => " [required]".to_owned(),
        (None, false) => String::new(),
    };
    let summary = if summary.is_empty() {
        String::new()
    } else {
        format!(": {summary}")
    };
    format!("{name}{summary}{value}")
}
