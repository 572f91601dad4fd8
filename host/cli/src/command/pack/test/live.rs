//! Sends the prompts of cases to a model.

use std::path::Path;

use lmstrix::{Client, Request};
use lmstrix_inference::ContextSize;

use super::case::{Case, TestFile};
use crate::args::PackTestArgs;
use crate::environment::Env;
use crate::error::Failure;

/// The model that `--engine` and `--model` select.
pub(super) struct LiveModel<'a> {
    client: Client,
    args: &'a PackTestArgs,
}

impl<'a> LiveModel<'a> {
    /// Returns the model; `None` if no flag selects one.
    ///
    /// # Errors
    /// Returns an error if the config cannot be read or the sandbox cannot be started.
    pub(super) fn new(args: &'a PackTestArgs, env: &Env) -> Result<Option<Self>, Failure> {
        if args.engine.is_none() && args.model.is_none() {
            return Ok(None);
        }
        let mut environment = (**env).clone();
        if let Some(config) = &args.common.config {
            environment.paths.config.clone_from(config);
        }
        let client = Client::new(environment)?;
        Ok(Some(Self { client, args }))
    }

    /// Returns the answer to a case of a file, as the processors of its prompt made it.
    ///
    /// # Errors
    /// Returns an error if there is no complete answer.
    pub(super) async fn answer(
        &self,
        file: &TestFile,
        case: &Case,
        folder: &Path,
    ) -> Result<String, lmstrix::Error> {
        let prompt = case.prompt.as_deref().unwrap_or_default();
        let mut request = Request {
            packs: vec![file.pack_in(folder)],
            pack_files: case.files.iter().map(|file| folder.join(file)).collect(),
            params: case.params.clone().into_iter().collect(),
            ..Request::new(format!("{}/{prompt}", file.pack_name()))
        };
        request.model.engine.clone_from(&self.args.engine);
        request.model.model.clone_from(&self.args.model);
        request.model.context = case.context.map(ContextSize::Tokens);
        Ok(self.client.start(request).finish().await?.text)
    }
}
