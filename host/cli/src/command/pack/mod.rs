//! `pack`: creates, lists, shows, checks, tests, adds and shares packs, imports prompts, and prints the
//! contract.

mod add;
mod check;
mod distribution_failure;
mod failures;
mod import;
mod list;
mod new;
mod push;
mod remove;
mod show;
mod test;
mod transfer;
mod update;
mod verify;

use std::path::PathBuf;

use lmstrix::client::{self, Links, PackSource};
use lmstrix::job::{Cancel, PackSet, on_pack_thread};
use lmstrix_sandbox::{Pack, SandboxLimits, TextFile};

use super::models::print;
use super::{notices, resolve_args};
use crate::args::{CommonArgs, PackArgs, PackCommand};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `pack`.
///
/// # Errors
/// Returns an error if a pack cannot be loaded, or if a check finds a fault.
pub(crate) async fn pack(args: PackArgs, env: &Env, cancel: Cancel<'_>) -> Result<Exit, Failure> {
    let work = async {
        match args.command {
            PackCommand::New(args) => new::new(&args),
            PackCommand::List(args) => list::list(&args, env),
            PackCommand::Show(args) => show::show(args, env).await,
            PackCommand::Check(args) => check::check(args, env).await,
            PackCommand::Test(args) => test::test(args, env).await,
            PackCommand::Add(args) => add::add(args, env).await,
            PackCommand::Pull(args) => add::pull(args, env).await,
            PackCommand::Push(args) => push::push(args, env).await,
            PackCommand::Update(args) => update::update(args, env).await,
            PackCommand::Remove(args) => remove::remove(args, env),
            PackCommand::Verify(args) => verify::verify(&args, env),
            PackCommand::Lock(args) => verify::lock(args, env),
            PackCommand::Import(args) => import::import(&args, env),
            PackCommand::Wit(_) => print(lmstrix_sandbox::CONTRACT).map(|()| Exit::Done),
        }
    };
    tokio::select! {
        biased;
        () = cancel => Err(Failure::interrupted()),
        done = work => done,
    }
}

/// The messages and the packs of a command.
struct Setup {
    messages: Messages,
    source: PackSource,
    limits: SandboxLimits,
}

/// Loads a pack by name or file. Also returns the files that are passed to it: those beside
/// it, or the stock prompts for the standard pack.
fn load(
    packs: &mut PackSet,
    name_or_file: &str,
) -> Result<(Pack, Vec<TextFile>), lmstrix_sandbox::Error> {
    let pack = packs.take(name_or_file)?;
    let files = match pack.path() {
        Some(_) => pack.sidecar_files().to_vec(),
        None => vec![packs.stock().clone()],
    };
    Ok((pack, files))
}

impl Setup {
    fn new(common: &CommonArgs, env: &Env) -> Result<Self, Failure> {
        let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
        let notices = notices(messages);
        client::warn_about_unknown_variables(env, &notices);
        let config = resolve_args::config(common, env)?;
        let source = client::pack_source(env, &config, &notices)?;
        Ok(Self {
            messages,
            source,
            limits: config.limits,
        })
    }

    /// Calls packs on a thread for them, and shows the warnings of the search.
    async fn with_packs<T: Send + 'static>(
        self,
        pack_dirs: &[PathBuf],
        work: impl FnOnce(&mut PackSet) -> Result<T, lmstrix_sandbox::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let notices = notices(self.messages);
        let mut packs = self.source.pack_set(pack_dirs, Links::Allowed, &notices);
        let (done, warnings) = on_pack_thread(move || {
            let done = work(&mut packs);
            (done, packs.take_warnings())
        })
        .await?;
        for warning in warnings {
            self.messages.warning(&warning.to_string());
        }
        Ok(done?)
    }
}
