//! One inference on a server: prepares the request, and repeats it where that is
//! safe.
//!
//! The modules, in the order in which an inference uses them:
//!
//! - `event_sender`: the stream that receives the events
//! - `prepared_request`: the request with the settings that the server honours
//! - `output_limit`: the limit of output tokens
//! - `attempt`: sends the request; `request_form` leaves out what the server rejects
//! - `response_reader`: reads the response; `body_decoder` splits it into frames,
//!   `answer_decoder` makes events of them, `answer_check` compares them with the request

mod answer_check;
mod answer_decoder;
mod attempt;
mod body_decoder;
mod event_sender;
mod output_limit;
mod prepared_request;
mod request_form;
mod response_reader;
mod surrogates;

use std::sync::Arc;
use std::time::Duration;

use lmstrix_inference::{Event, FinishReason, Settings};
use tokio::sync::mpsc;

use super::dialect::Endpoint;
use super::server_instance::ServerInstance;
use super::server_target::ServerTarget;
use crate::engine::stream::{CancelFlag, EVENT_BUFFER, InferenceStream};
use crate::engine::{Error, InferenceRequest};
use attempt::{AttemptResult, Attempts};
use event_sender::EventSender;
use output_limit::effective_max_tokens;
use prepared_request::{PreparedRequest, supported_settings};

/// Maximum number of attempts, including the first.
const MAX_ATTEMPTS: u32 = 5;
/// The delay before the second attempt; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(250);
/// Maximum delay before a retry. If the server asks for a longer one, the
/// request fails.
const MAX_BACKOFF: Duration = Duration::from_secs(120);
/// Maximum number of instances that are loaded in place of one that is gone.
const REPLACEMENTS_MAX: u32 = 2;
/// Interval between requests to a server that is loading its model.
const LOADING_RETRY_INTERVAL: Duration = Duration::from_millis(500);

impl ServerTarget {
    /// Starts the inference as a separate task. Dropping the stream closes the
    /// connection, on which servers stop generating.
    pub(in crate::engine) fn infer(
        self,
        instance: ServerInstance,
        request: InferenceRequest,
    ) -> InferenceStream {
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let cancel = Arc::new(CancelFlag::default());
        let task_cancel = Arc::clone(&cancel);
        let task = tokio::spawn(async move {
            let sender = EventSender::new(sender);
            let instance = self.current_instance(&instance);
            let result = tokio::select! {
                biased;
                // Dropping the other future closes the connection.
                () = task_cancel.wait() => Ok(Some(FinishReason::Cancelled)),
                result = run(&self, &instance, &request, &sender) => result,
            };
            let last = match result {
                Ok(Some(finish)) => Ok(Event::Finished(finish)),
                // The stream has been dropped.
                Ok(None) => return,
                Err(error) => Err(error),
            };
            sender.end(last).await;
        });
        InferenceStream::new(events, cancel, Some(task.abort_handle()))
    }
}

/// Runs the inference. An instance that is gone is loaded again, as long as there is no
/// output. Returns `None` if the stream was dropped.
async fn run(
    target: &ServerTarget,
    instance: &ServerInstance,
    request: &InferenceRequest,
    sender: &EventSender,
) -> Result<Option<FinishReason>, Error> {
    let (settings, warnings) = supported_settings(target, request)?;
    for warning in warnings {
        if !sender.emit(Event::Warning(warning)).await {
            return Ok(None);
        }
    }
    let mut instance = instance.clone();
    let mut replacements = 0;
    loop {
        let error = match run_on(target, &instance, request, settings.clone(), sender).await? {
            RunResult::Finished(finish) => return Ok(finish),
            RunResult::InstanceGone(error) => error,
        };
        replacements += 1;
        if replacements > REPLACEMENTS_MAX {
            return Err(error);
        }
        let warning = format!(
            "`{}` was unloaded or replaced while it was used; loading it again",
            instance.id
        );
        if !sender.emit(Event::Warning(warning)).await || !sender.emit(Event::Loading(None)).await {
            return Ok(None);
        }
        instance = target.ensure_again(&instance, &mut |_| {}).await?;
    }
}

/// The end of the attempts on one instance.
enum RunResult {
    /// The response is complete; `None` if the stream was dropped.
    Finished(Option<FinishReason>),
    /// The instance is gone, or has less context than it had when it was loaded.
    InstanceGone(Error),
}

/// Runs attempts on an instance until one finishes.
async fn run_on(
    target: &ServerTarget,
    instance: &ServerInstance,
    request: &InferenceRequest,
    settings: Settings,
    sender: &EventSender,
) -> Result<RunResult, Error> {
    let max_tokens = effective_max_tokens(target, instance, &request.prompt, &settings)?;
    let endpoint = Endpoint::select(
        target.server.kind,
        target.listed.has_lmstudio_chat,
        &request.prompt,
        &settings,
    );
    tracing::debug!(
        ?endpoint,
        model = instance.id,
        "sending an inference request"
    );
    let prepared = PreparedRequest {
        target,
        instance,
        request,
        endpoint,
        settings,
        max_tokens,
    };
    let mut attempts = Attempts::new(&prepared, sender);
    let mut failures = 0;
    loop {
        match attempts.run_one().await? {
            AttemptResult::Finished(finish) => return Ok(RunResult::Finished(finish)),
            AttemptResult::InstanceGone(error) => return Ok(RunResult::InstanceGone(error)),
            AttemptResult::RequestChanged => {}
            AttemptResult::Loading => {
                if !sender.emit(Event::Loading(None)).await {
                    return Ok(RunResult::Finished(None));
                }
                tokio::time::sleep(LOADING_RETRY_INTERVAL).await;
            }
            AttemptResult::Retry {
                wait,
                reason,
                error,
            } => {
                failures += 1;
                let Some(wait) = retry_delay(failures, wait) else {
                    return Err(error);
                };
                let warning = format!(
                    "{reason}; retrying in {} s (retry {failures} of {})",
                    wait.as_secs_f64(),
                    MAX_ATTEMPTS - 1
                );
                if !sender.emit(Event::Warning(warning)).await {
                    return Ok(RunResult::Finished(None));
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Returns the delay before the next attempt, at least the `wait` that the server
/// asks for. Returns `None` if there is no further attempt.
fn retry_delay(failures: u32, wait: Duration) -> Option<Duration> {
    if failures >= MAX_ATTEMPTS {
        return None;
    }
    let wait = wait.max(INITIAL_BACKOFF * 2_u32.pow(failures - 1));
    (wait <= MAX_BACKOFF).then_some(wait)
}
