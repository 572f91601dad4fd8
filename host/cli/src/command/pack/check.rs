//! `pack check`: a pack against its own description and the contract.

use lmstrix::job::PackSet;
use lmstrix::quantity::count;
use lmstrix_sandbox::{Finding, STANDARD_PACK, Severity};

use super::{Setup, load};
use crate::args::PackCheckArgs;
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Runs `pack check`.
///
/// # Errors
/// Returns an error if the pack cannot be loaded, or if a fault was found.
pub(super) async fn check(args: PackCheckArgs, env: &Env) -> Result<Exit, Failure> {
    let setup = Setup::new(&args.common, env)?;
    let name = args.which.pack.clone();
    let check = move |packs: &mut PackSet| {
        let standard = packs.get(STANDARD_PACK)?.describe(&[])?.processors;
        let standard: Vec<String> = standard.into_iter().map(|item| item.name).collect();
        let (pack, files) = load(packs, &name)?;
        Ok(lmstrix_sandbox::check(&pack, &files, &standard))
    };
    let findings = setup.with_packs(&args.which.pack_dir, check).await?;
    let line = |Finding { severity, text }: &Finding| {
        let word = match severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Wrong => "wrong",
        };
        format!("{word:<8} {}\n", text.replace('\n', "\n         "))
    };
    print(&findings.iter().map(line).collect::<String>())?;
    let is_wrong = |finding: &&Finding| finding.severity == Severity::Wrong;
    match findings.iter().filter(is_wrong).count() {
        0 => Ok(Exit::Done),
        faults => Err(Failure::new(
            Exit::Pack,
            format!("pack `{}` has {}", args.which.pack, count(faults, "fault")),
        )),
    }
}
