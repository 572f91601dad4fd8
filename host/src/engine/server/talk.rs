//! One inference on a server: asked, asked again where that is safe, and read
//! to its end.

mod reader;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::client::{Trouble, retry_after};
use super::dialect::{Request, Road};
use super::fault::{self, Fault, FaultKind};
use super::models::unreachable;
use super::{Instance, Kind, Target};
use crate::engine::stream::{Cancel, Stream, WAITING_EVENTS};
use crate::engine::{Ask, Error};
use crate::inference::{Event, Finish, MaxTokens, Prompt, Settings, Support};
use crate::token_estimate::Estimate;
use reader::{Reader, Seen};

/// How often a request is sent at most, the first time included.
const TRIES: u32 = 5;
/// The wait before the second try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A server that wants more patience than this is taken at its word, and the
/// user told.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// How often a server that is loading is asked again.
const LOADING_WAIT: Duration = Duration::from_millis(500);
/// How many keys of a request may be left out because the server refuses them.
const LEFT_OUT_MAX: usize = 8;
/// Keys without which a request is none.
const NEEDED: [&str; 5] = ["model", "messages", "prompt", "input", "options"];
/// How long the rendering of a prompt may take; it is for show only.
const RENDER_LIMIT: Duration = Duration::from_secs(5);

/// Starts the inference as a task of its own.
pub(super) fn start(target: Target, instance: Instance, ask: Ask) -> Stream {
    let (sender, events) = mpsc::channel(WAITING_EVENTS);
    let cancel = Arc::new(Cancel::default());
    let watched = Arc::clone(&cancel);
    let task = tokio::spawn(async move {
        let mut talk = Talk {
            target: &target,
            instance: &instance,
            ask: &ask,
            sender: &sender,
            left_out: Vec::new(),
            stream: true,
            is_loading: false,
        };
        let ended = tokio::select! {
            biased;
            // What is dropped here closes the connection.
            () = watched.wait() => Ok(Some(Finish::Cancelled)),
            ended = talk.run() => ended,
        };
        let last = match ended {
            Ok(Some(finish)) => Ok(Event::Finished(finish)),
            // Nobody listens any more.
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let _gone = sender.send(last).await;
    });
    Stream::new(events, cancel, Some(task.abort_handle()))
}

/// The exact text that the model would be sent.
pub(super) async fn rendered(
    target: &Target,
    prompt: &Prompt,
    instance: &Instance,
) -> Option<String> {
    let messages = match prompt {
        Prompt::Raw(text) => return Some(text.clone()),
        Prompt::Chat(messages) => messages,
    };
    if !matches!(target.server.kind, Kind::LlamaServer | Kind::LlamaRouter) {
        return None;
    }
    let messages: Vec<Value> = messages
        .iter()
        .map(|it| json!({ "role": it.role.as_str(), "content": it.content }))
        .collect();
    let body = json!({ "model": instance.id, "messages": messages });
    let client = &target.server.client;
    let asked = async {
        let response = client.post("/apply-template", &body).await.ok()?;
        client.whole(response).await.ok()?.json()
    };
    let answer = tokio::time::timeout(RENDER_LIMIT, asked).await.ok()??;
    answer.get("prompt")?.as_str().map(str::to_owned)
}

/// One inference, over all its tries.
struct Talk<'a> {
    target: &'a Target,
    instance: &'a Instance,
    ask: &'a Ask,
    sender: &'a mpsc::Sender<Result<Event, Error>>,
    /// Keys that the server refused.
    left_out: Vec<String>,
    stream: bool,
    /// The server said so; until it takes the request, nothing has begun.
    is_loading: bool,
}

/// What became of one try.
enum Try {
    Ended(Option<Finish>),
    /// Safe to send again: nothing of an answer was seen.
    Again {
        wait: Duration,
        why: String,
        error: Error,
    },
    /// The model is still being loaded; this counts as no try.
    Loading,
    /// The request was changed; this counts as no try either.
    Changed,
}

impl Talk<'_> {
    async fn emit(&self, event: Event) -> bool {
        self.sender.send(Ok(event)).await.is_ok()
    }

    /// `None` is an answer that nobody listens to any more.
    async fn run(&mut self) -> Result<Option<Finish>, Error> {
        let (settings, lost) = self.settings()?;
        for warning in lost {
            if !self.emit(Event::Warning(warning)).await {
                return Ok(None);
            }
        }
        let max_tokens = self.max_tokens(&settings)?;
        let road = Road::of(
            self.target.server.kind,
            self.target.listed.has_studio_chat,
            &self.ask.prompt,
            &settings,
        );
        tracing::debug!(?road, model = self.instance.id, "asks a server");
        let mut tries = 0;
        loop {
            let body = self.body(road, &settings, max_tokens);
            match self.once(road, &body, max_tokens).await? {
                Try::Ended(finish) => return Ok(finish),
                Try::Changed => {}
                Try::Loading => {
                    if !self.emit(Event::Loading(None)).await {
                        return Ok(None);
                    }
                    tokio::time::sleep(LOADING_WAIT).await;
                }
                Try::Again { wait, why, error } => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error);
                    }
                    let wait = wait.max(FIRST_WAIT * 2_u32.pow(tries - 1));
                    if wait > LONGEST_WAIT {
                        return Err(error);
                    }
                    let warning = format!(
                        "{why}; trying again in {} s ({tries} of {})",
                        wait.as_secs_f64(),
                        TRIES - 1
                    );
                    if !self.emit(Event::Warning(warning)).await {
                        return Ok(None);
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// The settings as this server takes them, and what is lost of what
    /// somebody gave.
    fn settings(&self) -> Result<(Settings, Vec<String>), Error> {
        let mut settings = self.ask.settings.clone();
        let lost: Vec<String> = settings
            .given()
            .into_iter()
            .filter(|name| {
                let support = self.target.support(&self.ask.prompt, &settings, name);
                matches!(support, Support::Dropped | Support::Rejected)
            })
            .map(str::to_owned)
            .collect();
        let fatal: Vec<&str> = lost
            .iter()
            .filter(|name| self.ask.required.contains(name))
            .map(String::as_str)
            .collect();
        if !fatal.is_empty() {
            return Err(Error::Settings(fatal.join(", ")));
        }
        if lost.iter().any(|it| it == "reasoning") {
            settings.reasoning = None;
        }
        let engine = self.target.server.kind;
        let warnings = lost
            .iter()
            .map(|name| format!("{engine} does not honour the setting `{name}` for this model"))
            .collect();
        Ok((settings, warnings))
    }

    /// The limit that is sent: never more than what is left of the context
    /// after the prompt. LM Studio and Ollama let a model go on beyond it,
    /// forgetting the beginning, so there no limit becomes this one.
    fn max_tokens(&self, settings: &Settings) -> Result<Option<u32>, Error> {
        let Some(context) = self.instance.context else {
            // What is known of the model has to do, where the server does not
            // say with how much it was loaded.
            let known = self.target.facts().tested.or(self.target.declared());
            return match (settings.max_tokens.value, known) {
                (MaxTokens::Percent(_), None) => Err(Error::Context(format!(
                    "{} does not say how much context the model has, so a percentage of it means \
                     nothing; give --max-tokens as a number",
                    self.target.server.shown()
                ))),
                (most @ MaxTokens::Percent(_), Some(known)) => Ok(most.tokens(known)),
                (most, _) => Ok(most.tokens(u32::MAX)),
            };
        };
        let prompt = self.estimate();
        let kind = self.target.server.kind;
        // The others count themselves and say so.
        let is_silent = matches!(kind, Kind::LmStudio | Kind::Ollama);
        if is_silent && prompt.low > context {
            return Err(Error::TooLong {
                engine: self.target.server.shown(),
                model: self.target.listed.id.clone(),
                least: prompt.low,
                context,
            });
        }
        // When the guess leaves nothing, the server's own count decides.
        let left = match context.saturating_sub(prompt.likely) {
            0 => context.saturating_sub(prompt.low),
            left => left,
        }
        .max(1);
        Ok(match settings.max_tokens.value.tokens(context) {
            Some(most) => Some(most.min(left)),
            None if is_silent => Some(left),
            None => None,
        })
    }

    fn estimate(&self) -> Estimate {
        let per_byte = self.target.facts().tokens_per_byte;
        match &self.ask.prompt {
            Prompt::Raw(text) => Estimate::new([text.as_str()], per_byte),
            Prompt::Chat(messages) => {
                Estimate::new(messages.iter().map(|it| it.content.as_str()), per_byte)
            }
        }
    }

    /// Ollama wants the context with every request that follows a load with one:
    /// another number makes it load anew, and none leaves what is there.
    fn num_ctx(&self) -> Option<u32> {
        let asked = self.target.asked_context;
        (self.instance.is_ours || asked.is_some())
            .then(|| self.instance.context.or(asked))
            .flatten()
    }

    fn body(&self, road: Road, settings: &Settings, max_tokens: Option<u32>) -> Map<String, Value> {
        let mut body = road.body(&Request {
            kind: self.target.server.kind,
            model: &self.instance.id,
            prompt: &self.ask.prompt,
            settings,
            max_tokens,
            context: self.num_ctx(),
            stream: self.stream,
        });
        for key in &self.left_out {
            body.remove(key);
        }
        body
    }

    async fn once(
        &mut self,
        road: Road,
        body: &Map<String, Value>,
        max_tokens: Option<u32>,
    ) -> Result<Try, Error> {
        let client = &self.target.server.client;
        let begun = || Event::Prefill {
            progress: 0.0,
            tokens: None,
        };
        if !self.is_loading && !self.emit(begun()).await {
            return Ok(Try::Ended(None));
        }
        let posted = client.post(road.path(), &Value::Object(body.clone())).await;
        let mut response = match posted {
            Ok(response) => response,
            Err(trouble @ (Trouble::Refused(_) | Trouble::Broken(_))) => {
                return Ok(self.again(&trouble));
            }
            Err(trouble) => return Err(unreachable(&self.target.server, &trouble)),
        };
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let after = retry_after(&response);
            let body_read = match client.whole(response).await {
                Ok(whole) => whole.body,
                Err(trouble) => return Ok(self.again(&trouble)),
            };
            let fault = fault::of_response(status, after.as_deref(), &body_read);
            return self.refused(fault, body).await;
        }
        if std::mem::take(&mut self.is_loading) && !self.emit(begun()).await {
            return Ok(Try::Ended(None));
        }
        let mut reader = Reader::new(self.target, self.instance, self.ask, road, max_tokens);
        loop {
            let read = match reader.patience() {
                None => client.chunk(&mut response).await,
                // The reason for the end has been given; what may follow are counts.
                Some(patience) => {
                    match tokio::time::timeout(patience, client.chunk(&mut response)).await {
                        Ok(read) => read,
                        Err(_) => Ok(None),
                    }
                }
            };
            let (seen, at_end) = match read {
                Ok(Some(bytes)) => (reader.push(&bytes), false),
                Ok(None) => (reader.end(), true),
                // Whoever has said why it ended may leave as he likes.
                Err(_) if reader.has_finish() => (reader.end(), true),
                Err(trouble) => {
                    // What was held back belongs to the partial answer.
                    for event in reader.held_back() {
                        if !self.emit(event).await {
                            return Ok(Try::Ended(None));
                        }
                    }
                    if !reader.has_spoken() {
                        return Ok(self.again(&trouble));
                    }
                    return Err(Error::Lost {
                        engine: self.target.server.shown(),
                        why: client.redact(&trouble.to_string()),
                    });
                }
            };
            for event in reader.take_events() {
                if !self.emit(event).await {
                    return Ok(Try::Ended(None));
                }
            }
            match seen {
                Seen::More if !at_end => {}
                Seen::More => {
                    return Err(Error::Cut {
                        engine: self.target.server.shown(),
                    });
                }
                Seen::Finished(finish) => return Ok(Try::Ended(Some(finish))),
                Seen::Fault(fault) if !reader.has_spoken() => {
                    return self.refused(fault, body).await;
                }
                Seen::Fault(fault) => return Err(self.failed(fault)),
                Seen::Failed(error) => return Err(error),
            }
        }
    }

    fn again(&self, trouble: &Trouble) -> Try {
        let error = match trouble {
            Trouble::Broken(why) => Error::Lost {
                engine: self.target.server.shown(),
                why: self.target.server.client.redact(why),
            },
            other => unreachable(&self.target.server, other),
        };
        Try::Again {
            wait: Duration::ZERO,
            why: format!("{}: {trouble}", self.target.server.shown()),
            error,
        }
    }

    fn failed(&self, fault: Fault) -> Error {
        Error::Server {
            engine: self.target.server.shown(),
            model: self.instance.id.clone(),
            fault: Box::new(Fault {
                message: self.target.server.client.redact(&fault.message),
                ..fault
            }),
        }
    }

    /// The server said no before it said anything else.
    async fn refused(&mut self, fault: Fault, body: &Map<String, Value>) -> Result<Try, Error> {
        match &fault.kind {
            FaultKind::Loading => {
                self.is_loading = true;
                Ok(Try::Loading)
            }
            FaultKind::Busy => Ok(Try::Again {
                wait: fault.retry_after.unwrap_or_default(),
                why: format!("{} is busy", self.target.server.shown()),
                error: self.failed(fault),
            }),
            FaultKind::Unsupported(Some(key)) if key.starts_with("stream") => {
                let key = key.clone();
                if !self.stream {
                    return Err(self.failed(fault));
                }
                if key == "stream_options" && !self.left_out.contains(&key) {
                    self.left_out.push(key);
                } else {
                    self.stream = false;
                    let warning = "the server does not stream; its answer comes in one piece";
                    let _gone = self.emit(Event::Warning(warning.to_owned())).await;
                }
                Ok(Try::Changed)
            }
            FaultKind::Unsupported(Some(key))
                if body.contains_key(key)
                    && !NEEDED.contains(&key.as_str())
                    && self.left_out.len() < LEFT_OUT_MAX =>
            {
                let (key, setting) = (key.clone(), setting_of(key));
                if self.ask.required.iter().any(|it| it == setting) {
                    return Err(Error::Settings(setting.to_owned()));
                }
                if self.ask.settings.given().contains(&setting) {
                    let warning = format!(
                        "{} refuses the setting `{setting}`; asking without it",
                        self.target.server.kind
                    );
                    let _gone = self.emit(Event::Warning(warning)).await;
                }
                self.left_out.push(key);
                Ok(Try::Changed)
            }
            _ => Err(self.failed(fault)),
        }
    }
}

/// Our name for a key of a request.
fn setting_of(key: &str) -> &str {
    match key {
        "response_format" | "format" => "json_schema",
        "reasoning_effort" | "chat_template_kwargs" | "think" => "reasoning",
        "max_output_tokens" => "max_tokens",
        "repetition_penalty" => "repeat_penalty",
        other => other,
    }
}
