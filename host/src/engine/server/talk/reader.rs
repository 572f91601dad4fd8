//! Reads one response to its end: frames it, understands it, and knows whether
//! what it said was an answer.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::reasoning::{Piece, Splitter};
use crate::engine::server::dialect::{Framing, Road, Said};
use crate::engine::server::fault::{self, Fault, FaultKind};
use crate::engine::server::{Instance, Kind, Target, ndjson, sse};
use crate::engine::{Ask, Error};
use crate::inference::{Event, Finish, Prompt, Usage};

/// How long the end of a response is awaited after the reason for it.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The most of an answer that comes in one piece.
const WHOLE_BYTES_MAX: usize = 64 << 20;

/// What a piece of the response amounts to.
pub(super) enum Seen {
    /// Nothing final.
    More,
    Finished(Finish),
    /// The server says that it failed.
    Fault(Fault),
    /// It is no answer that we could take.
    Failed(Error),
}

enum Frames {
    /// Nothing but blanks was seen, and it may still be anything.
    Unknown(Framing),
    Sse(sse::Decoder),
    Lines(ndjson::Decoder),
    /// One piece, whatever was asked for.
    Whole(Vec<u8>),
}

pub(super) struct Reader<'a> {
    target: &'a Target,
    instance: &'a Instance,
    ask: &'a Ask,
    road: Road,
    max_tokens: Option<u32>,
    frames: Frames,
    splitter: Splitter,
    events: Vec<Event>,
    warned: Vec<String>,
    has_spoken: bool,
    is_checked: bool,
    usage: Option<Usage>,
    /// Why the answer ended, and when that was said.
    finish: Option<(Finish, Instant)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        target: &'a Target,
        instance: &'a Instance,
        ask: &'a Ask,
        road: Road,
        max_tokens: Option<u32>,
    ) -> Self {
        Self {
            target,
            instance,
            ask,
            road,
            max_tokens,
            frames: Frames::Unknown(road.framing()),
            splitter: Splitter::new(ask.reasoning_tags),
            events: Vec::new(),
            warned: Vec::new(),
            has_spoken: false,
            is_checked: false,
            usage: None,
            finish: None,
        }
    }

    /// How long the next bytes are waited for; `None` is the watchdogs' affair.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.finish
            .map(|(_, said)| END_PATIENCE.saturating_sub(said.elapsed()))
    }

    pub(super) fn has_finish(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether anything of an answer was given out.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Text that could still have become a tag.
    pub(super) fn held_back(&mut self) -> Vec<Event> {
        let pieces = self.splitter.finish();
        self.say(pieces);
        self.take_events()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Seen {
        if let Frames::Unknown(framing) = self.frames {
            // A server may answer in one piece, also when it was asked to
            // stream. No event stream begins with a brace; what else a body may
            // be (HTML of a proxy) says nothing in frames.
            match (bytes.iter().find(|it| !it.is_ascii_whitespace()), framing) {
                (None, _) => return Seen::More,
                (Some(b'{' | b'[' | b'<'), Framing::ServerSentEvents)
                | (Some(b'<' | b'['), Framing::Lines) => self.frames = Frames::Whole(Vec::new()),
                (Some(_), Framing::ServerSentEvents) => {
                    self.frames = Frames::Sse(sse::Decoder::default());
                }
                (Some(_), Framing::Lines) => {
                    self.frames = Frames::Lines(ndjson::Decoder::default());
                }
            }
        }
        let mut frames = Vec::new();
        let framed = match &mut self.frames {
            Frames::Unknown(_) => Ok(()),
            Frames::Sse(decoder) => decoder.push(bytes, &mut frames),
            Frames::Lines(decoder) => {
                let mut lines = Vec::new();
                let pushed = decoder.push(bytes, &mut lines);
                frames.extend(lines.into_iter().map(line_frame));
                pushed
            }
            Frames::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > WHOLE_BYTES_MAX {
                    return self.garbage("an answer of more than 64 MiB");
                }
                return Seen::More;
            }
        };
        let seen = self.read(frames, false);
        match framed {
            Err(too_long) if matches!(seen, Seen::More) => self.garbage(&too_long.to_string()),
            _ => seen,
        }
    }

    /// The response has ended, or nobody waits for its end any more.
    pub(super) fn end(&mut self) -> Seen {
        let mut frames = Vec::new();
        match &mut self.frames {
            Frames::Unknown(_) => {}
            Frames::Sse(decoder) => {
                // A frame that is too long is one that did not end.
                let _cut = decoder.finish(&mut frames);
            }
            Frames::Lines(decoder) => {
                let mut lines = Vec::new();
                decoder.finish(&mut lines);
                frames.extend(lines.into_iter().map(line_frame));
            }
            Frames::Whole(body) => {
                let body = std::mem::take(body);
                return self.whole(&body);
            }
        }
        match self.read(frames, true) {
            Seen::More => self.finished(),
            seen => seen,
        }
    }

    fn whole(&mut self, body: &[u8]) -> Seen {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            // An error page with a status of success.
            let fault = fault::of_text(&String::from_utf8_lossy(body));
            return Seen::Fault(fault);
        };
        let mut said = Vec::new();
        self.road.whole(&value, &mut said);
        match self.hear(said) {
            Seen::More => self.finished(),
            seen => seen,
        }
    }

    fn read(&mut self, frames: Vec<sse::Frame>, at_end: bool) -> Seen {
        for frame in frames {
            let mut said = Vec::new();
            if let Err(what) = self.road.frame(&frame.event, &frame.data, &mut said) {
                // The last line of a stream that was cut in the middle of it.
                if at_end {
                    return Seen::More;
                }
                return self.garbage(&what);
            }
            match self.hear(said) {
                Seen::More => {}
                seen => return seen,
            }
        }
        Seen::More
    }

    fn garbage(&mut self, what: &str) -> Seen {
        let held = self.splitter.finish();
        self.say(held);
        Seen::Failed(Error::Garbage {
            engine: self.target.server.shown(),
            what: what.to_owned(),
        })
    }

    fn hear(&mut self, said: Vec<Said>) -> Seen {
        for it in said {
            match it {
                Said::Loading(progress) => self.events.push(Event::Loading(progress)),
                Said::Prefill { progress, tokens } => {
                    self.events.push(Event::Prefill { progress, tokens });
                }
                Said::Reasoning(text) => self.say(vec![Piece::Reasoning(text)]),
                Said::Text(text) => {
                    let pieces = self.splitter.push(&text);
                    self.say(pieces);
                }
                Said::Usage(usage) => {
                    self.usage = Some(usage);
                    self.events.push(Event::Usage(usage));
                }
                Said::Warning(warning) => self.warn(warning),
                Said::Model(model) => {
                    if let Some(error) = self.check_model(&model) {
                        return Seen::Failed(error);
                    }
                }
                Said::Fault(fault) => {
                    let held = self.splitter.finish();
                    self.say(held);
                    return Seen::Fault(fault);
                }
                Said::Finish(finish) => {
                    self.finish.get_or_insert_with(|| (finish, Instant::now()));
                }
                Said::Done if self.finish.is_some() => return self.finished(),
                // Without a reason the rest of the stream must give one.
                Said::Done => {}
            }
        }
        Seen::More
    }

    fn say(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            self.has_spoken = true;
            self.events.push(piece.into());
        }
    }

    /// The same once, however often a stream says it.
    fn warn(&mut self, warning: String) {
        if !self.warned.contains(&warning) {
            self.warned.push(warning.clone());
            self.events.push(Event::Warning(warning));
        }
    }

    /// LM Studio and Ollama may let another model answer than the one that was
    /// asked; of other servers a name may be an alias.
    fn check_model(&mut self, answered: &str) -> Option<Error> {
        if std::mem::replace(&mut self.is_checked, true) {
            return None;
        }
        let asked = &self.instance.id;
        let listed = &self.target.listed;
        let is_meant = [asked, &listed.id]
            .into_iter()
            .chain(&listed.aliases)
            .any(|name| {
                answered == name
                    || answered
                        .strip_prefix(name.as_str())
                        .is_some_and(|rest| rest.starts_with([':', '@']))
            });
        if is_meant {
            return None;
        }
        match self.target.server.kind {
            Kind::LmStudio | Kind::Ollama => Some(Error::WrongModel {
                engine: self.target.server.shown(),
                asked: asked.clone(),
                answered: answered.to_owned(),
            }),
            Kind::LlamaServer | Kind::LlamaRouter | Kind::Vllm | Kind::OpenAi => {
                self.warn(format!(
                    "asked for `{asked}`, and the server calls its model `{answered}`"
                ));
                None
            }
        }
    }

    /// The response is over: an answer, or no answer.
    fn finished(&mut self) -> Seen {
        let held = self.splitter.finish();
        self.say(held);
        let Some((finish, _)) = self.finish else {
            return Seen::More;
        };
        if !self.has_spoken
            && let Some(fault) = self.silent_overflow(finish)
        {
            return Seen::Fault(fault);
        }
        Seen::Finished(self.precise(finish))
    }

    /// LM Studio's own chat never says that a limit cut the answer, and no
    /// server tells the context's limit from the user's.
    fn precise(&self, finish: Finish) -> Finish {
        let Some(usage) = self.usage else {
            return finish;
        };
        // Where the wire says that it was cut, LM Studio counts one less than
        // it gave.
        let uncounted = u32::from(finish == Finish::Length);
        let at_limit = |limit: u32| usage.completion_tokens.saturating_add(uncounted) >= limit;
        let is_cut = match finish {
            Finish::Length => true,
            Finish::End => self.road == Road::StudioChat,
            _ => false,
        };
        if !is_cut {
            return finish;
        }
        if self.max_tokens.is_some_and(at_limit) {
            return Finish::Length;
        }
        let full = self.instance.context.is_some_and(|context| {
            usage
                .prompt_tokens
                .saturating_add(usage.completion_tokens)
                .saturating_add(uncounted)
                >= context
        });
        if full { Finish::ContextFull } else { finish }
    }

    /// LM Studio answers a prompt that does not fit with nothing at all, and
    /// calls it a success. The prompt's size tells that from a model that has
    /// nothing to say.
    fn silent_overflow(&self, finish: Finish) -> Option<Fault> {
        let context = self.instance.context?;
        let counted = self.usage.map(|it| it.prompt_tokens).filter(|it| *it > 0);
        let is_studio = self.target.server.kind == Kind::LmStudio && finish == Finish::End;
        let tokens = match counted {
            Some(counted) => counted,
            None if is_studio => about_tokens(&self.ask.prompt),
            None => return None,
        };
        (tokens >= context).then(|| Fault {
            kind: FaultKind::Overflow {
                prompt_tokens: Some(tokens.into()),
                context_tokens: Some(context.into()),
            },
            message:
                "the answer is empty, which is how some servers say that a prompt does not fit"
                    .to_owned(),
            status: None,
            retry_after: None,
        })
    }
}

fn line_frame(line: String) -> sse::Frame {
    sse::Frame {
        event: String::new(),
        data: line,
    }
}

/// Bytes of one token, in plain English; an estimate for telling an empty
/// answer from a prompt that is far too long.
const BYTES_PER_TOKEN: usize = 4;

fn about_tokens(prompt: &Prompt) -> u32 {
    let bytes: usize = match prompt {
        Prompt::Raw(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|it| it.content.len()).sum(),
    };
    u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX)
}
