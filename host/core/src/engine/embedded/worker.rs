//! The thread of an embedded model.

use std::sync::Arc;

use lmstrix_gguf::{Model, ModelFile};
use lmstrix_inference::{Event, SettingSupport};
use tokio::sync::mpsc;

use crate::engine::reasoning::ReasoningSplitter;
use crate::engine::stream::{CancelFlag, EVENT_BUFFER, InferenceStream};
use crate::engine::{Error, InferenceRequest};

/// Stack size of the thread. A hostile chat template can nest values
/// deeply, and a stack overflow would abort the process. Only the pages that are
/// touched use memory.
const STACK_BYTES: usize = 256 << 20;

/// A thread that loads a model with the first inference and keeps it for the next
/// ones. Dropping this value stops the thread after its current inference.
#[derive(Debug)]
pub(crate) struct EmbeddedWorker {
    tasks: std::sync::mpsc::Sender<InferenceTask>,
}

/// An inference in the thread's queue.
#[derive(Debug)]
struct InferenceTask {
    request: InferenceRequest,
    cancel: Arc<CancelFlag>,
    sender: mpsc::Sender<Result<Event, Error>>,
}

impl EmbeddedWorker {
    /// Starts the thread without loading the model.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be created.
    pub(super) fn start(file: Arc<ModelFile>, context: u32) -> Result<Self, Error> {
        let (tasks, queue) = std::sync::mpsc::channel::<InferenceTask>();
        std::thread::Builder::new()
            .name("model".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let mut model = None;
                // candle's small operations stay on this thread.
                let only_this_thread = rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .use_current_thread()
                    .build();
                while let Ok(task) = queue.recv() {
                    let result = match &only_this_thread {
                        Ok(_) => run(&file, context, &mut model, &task),
                        Err(e) => Err(Error::EngineStopped(e.to_string())),
                    };
                    if let Err(error) = result {
                        // The receiver may be gone.
                        let _ignored = task.sender.blocking_send(Err(error));
                    }
                }
            })
            .map_err(|e| Error::EngineStopped(e.to_string()))?;
        Ok(Self { tasks })
    }

    /// Queues an inference.
    ///
    /// # Errors
    /// Returns an error if the thread has stopped.
    pub(crate) fn infer(&self, request: InferenceRequest) -> Result<InferenceStream, Error> {
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let cancel = Arc::new(CancelFlag::default());
        let stream = InferenceStream::new(events, Arc::clone(&cancel), None);
        let task = InferenceTask {
            request,
            cancel,
            sender,
        };
        self.tasks
            .send(task)
            .map_err(|_| Error::EngineStopped("its thread ended".to_owned()))?;
        Ok(stream)
    }
}

fn run(
    file: &ModelFile,
    context: u32,
    model: &mut Option<Model>,
    task: &InferenceTask,
) -> Result<(), Error> {
    let InferenceTask {
        request,
        cancel,
        sender,
    } = task;
    let emit = |event| {
        if sender.blocking_send(Ok(event)).is_err() {
            cancel.cancel();
        }
    };
    let model = match model {
        Some(model) => model,
        None => {
            emit(Event::Loading(None));
            model.insert(file.load(context)?)
        }
    };
    check_required(model, request)?;
    let mut splitter = ReasoningSplitter::new(request.split_reasoning);
    let is_cancelled = || cancel.is_cancelled();
    model.infer(
        &request.prompt,
        &request.settings,
        &is_cancelled,
        &mut |event| match event {
            Event::Text(text) => splitter
                .push(&text)
                .into_iter()
                .for_each(|part| emit(part.into())),
            Event::Finished(_) => {
                splitter
                    .finish(true)
                    .into_iter()
                    .for_each(|part| emit(part.into()));
                emit(event);
            }
            other => emit(other),
        },
    )?;
    Ok(())
}

/// Returns an error if the engine does not support all required settings.
fn check_required(model: &Model, request: &InferenceRequest) -> Result<(), Error> {
    let unsupported: Vec<&str> = request
        .required_settings
        .iter()
        .map(String::as_str)
        .filter(|name| model.setting_support(name) != SettingSupport::Honoured)
        .collect();
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Error::UnsupportedSettings(unsupported.join(", ")))
}
