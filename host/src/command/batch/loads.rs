//! Models are loaded once each, waited for when their server goes away, and
//! unloaded by whoever loaded them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::field::Model;
use super::run::Runner;
use super::shared::SharedBoard;
use super::trouble::{self, Trouble};
use crate::batch::{LogItem, Record};
use crate::engine::{self, Choice, Context, Life, Reach, Ready, Wanted};
use crate::error::Failure;
use crate::inference::Event;
use crate::job::{Failed, Sinks, ensure};
use crate::sink::{self, Sink};

/// How long an unload may take.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);
/// How often a server that went away is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a load needs, beside the model.
pub(super) struct Loading {
    pub(super) life: Life,
    pub(super) reach: Reach,
    pub(super) models_folder: std::path::PathBuf,
    /// The context of each model, where one is asked for.
    pub(super) contexts: Vec<Option<Context>>,
    /// Whether the context is what the jobs need, and may be less.
    pub(super) fits: Vec<bool>,
}

/// Why a model is not loaded.
pub(super) enum NotLoaded {
    Server(String),
    Model(String),
    Impossible(Failure),
    Stopped,
}

impl Runner<'_> {
    /// Waits for a server that went away.
    pub(super) async fn comes_back(&mut self, model: usize, why: &str) -> bool {
        let shown = self
            .shared
            .stuff
            .models
            .get(model)
            .map(|it| it.place.clone())
            .unwrap_or_default();
        self.shared.say(&format!(
            "{why}; waiting {} s for {shown}",
            self.manner.server_back.as_secs()
        ));
        let start = Instant::now();
        while start.elapsed() < self.manner.server_back {
            let choice = self.choice(model, None);
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                chosen = engine::choose(choice) => {
                    if chosen.is_ok() {
                        return true;
                    }
                }
            }
            if self.stop.is_some() {
                return false;
            }
            self.pause(ASK_AGAIN).await;
            self.shared.tick();
        }
        false
    }

    pub(super) fn choice(&self, model: usize, context: Option<Context>) -> Choice {
        let model = self.shared.stuff.models.get(model);
        let endpoint = model.and_then(|it| it.endpoint.clone());
        Choice {
            wanted: endpoint.map_or(Wanted::Embedded, |it| Wanted::Servers(vec![it])),
            model: model.map(|it| it.id.clone()),
            fallback: None,
            context,
            models: self.loading.models_folder.clone(),
            reach: self.loading.reach,
            last: None,
            life: self.loading.life.clone(),
        }
    }

    /// Chooses the model again, since it may have gone, with the context that its
    /// jobs need.
    pub(super) async fn choose(&self, model: usize) -> Result<engine::Chosen, engine::Error> {
        let context = self.loading.contexts.get(model).copied().flatten();
        let fits = self.loading.fits.get(model).copied().unwrap_or(false);
        match engine::choose(self.choice(model, context)).await {
            Ok(chosen) if context.is_some() && !chosen.loads_with_context() => {
                engine::choose(self.choice(model, None)).await
            }
            // Less context fails only the jobs that do not fit.
            Err(engine::Error::Memory {
                largest: Some(largest),
                ..
            }) if fits => engine::choose(self.choice(model, Some(Context::Tokens(largest)))).await,
            chosen => chosen,
        }
    }

    pub(super) async fn load(&mut self, index: usize) -> Result<Ready, NotLoaded> {
        let of_error = |error: engine::Error| match trouble::of_engine(&error) {
            Trouble::Server => NotLoaded::Server(crate::error::chain(&error)),
            Trouble::Model | Trouble::Busy => NotLoaded::Model(crate::error::chain(&error)),
            _ => NotLoaded::Impossible(error.into()),
        };
        let chosen = self.choose(index).await.map_err(of_error)?;
        let Some(model) = self.shared.stuff.models.get(index) else {
            return Err(NotLoaded::Stopped);
        };
        // Nothing is loaded for one who has had enough meanwhile.
        if self.listen().await {
            return Err(NotLoaded::Stopped);
        }
        for warning in &chosen.warnings {
            self.shared.say_once(warning);
        }
        self.note(&Record::Loading(item(model)));
        let mut watching = WatchingLoad {
            board: Arc::clone(&self.shared.board),
            model: model.label.clone(),
            context: chosen.asked_context(),
        };
        let begin = Instant::now();
        let shared = self.shared;
        let mut cancel = shared.cancel.clone();
        let loaded = async {
            let mut sinks: Sinks<'_> = vec![&mut watching];
            let mut interrupt = std::pin::pin!(async move {
                if cancel.wait_for(|it| *it).await.is_err() {
                    std::future::pending().await
                }
            });
            ensure(chosen, &mut sinks, interrupt.as_mut(), shared.limits, begin).await
        };
        let mut loaded = std::pin::pin!(loaded);
        let ready = loop {
            tokio::select! {
                biased;
                // The load goes on, so that it can be undone; a second Ctrl-C
                // does not wait for it.
                () = self.interrupted() => {}
                ready = &mut loaded => break ready,
                () = tokio::time::sleep(Duration::from_millis(200)) => shared.tick(),
            }
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(Failed::Engine(error)) => {
                // The server said no: nothing of ours is there. A connection that
                // broke may have left a load that goes on.
                if !error.is_unreachable() {
                    self.note(&Record::Unloaded(item(model)));
                }
                return Err(of_error(error));
            }
            Err(Failed::Interrupted) => return Err(NotLoaded::Stopped),
            Err(Failed::Expired(expired)) => {
                // It may come up all the same.
                self.owned.insert((model.place.clone(), model.id.clone()));
                return Err(NotLoaded::Model(Failure::from(expired).message));
            }
            Err(failed) => return Err(NotLoaded::Impossible(failed.into())),
        };
        if ready.is_ours() {
            self.owned.insert((model.place.clone(), model.id.clone()));
        }
        for warning in &ready.warnings {
            shared.say_once(&format!("{}: {warning}", model.label));
        }
        let it = LogItem {
            instance: Some(ready.instance().to_owned()),
            context: ready.context(),
            seconds: ready.load_s(),
            ..item(model)
        };
        // What somebody else loaded is not ours to unload, ever.
        let record = if self.is_mine(model, &ready) {
            Record::Loaded(it)
        } else {
            Record::Unloaded(it)
        };
        self.note(&record);
        if let Some(totals) = self.totals.get_mut(index) {
            totals.is_loaded = true;
            if let Some(seconds) = ready.load_s() {
                totals.loads += 1;
                totals.load_s += seconds;
            }
        }
        let (seconds, context) = (ready.load_s(), ready.context());
        if seconds.is_some() {
            shared.on_board(|it| it.loaded(&model.label, seconds, context));
        }
        Ok(ready)
    }

    /// The same, for a model by its place in the plan.
    pub(super) fn is_mine_at(&self, index: usize, ready: &Ready) -> bool {
        let model = self.shared.stuff.models.get(index);
        model.is_some_and(|it| self.is_mine(it, ready))
    }

    /// Whether this folder's runs loaded it: this one, or one that was killed.
    pub(super) fn is_mine(&self, model: &Model, ready: &Ready) -> bool {
        let of = (model.place.clone(), model.id.clone());
        ready.is_ours() || self.owned.contains(&of) || self.past.loaded.contains_key(&of)
    }

    pub(super) async fn unload(&mut self, index: usize, ready: &Ready) {
        let Some(model) = self.shared.stuff.models.get(index) else {
            return;
        };
        if !self.is_mine(model, ready) {
            return;
        }
        let unloader = ready.unloader();
        let said = match tokio::time::timeout(UNLOAD_LIMIT, unloader.unload()).await {
            Ok(Ok(unloaded)) => {
                self.note(&Record::Unloaded(item(model)));
                self.owned.remove(&(model.place.clone(), model.id.clone()));
                if unloaded == Some(true) {
                    self.shared.on_board(|it| it.unloaded(&model.label));
                }
                None
            }
            Ok(Err(error)) => Some(crate::error::chain(&error)),
            Err(_) => Some(format!(
                "the server did not say within {} s that it is gone",
                UNLOAD_LIMIT.as_secs()
            )),
        };
        if let Some(why) = said {
            self.shared
                .say(&format!("`{}` may stay loaded: {why}", model.label));
        }
        if let Some(totals) = self.totals.get_mut(index) {
            totals.is_loaded = false;
        }
    }
}

pub(super) fn item(model: &Model) -> LogItem {
    LogItem {
        engine: model.place.clone(),
        model: model.id.clone(),
        ..LogItem::default()
    }
}

/// Shows how a load is going.
struct WatchingLoad {
    board: SharedBoard,
    model: String,
    context: Option<u32>,
}

impl Sink for WatchingLoad {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        if let (Event::Loading(progress), Ok(mut board)) = (event, self.board.lock()) {
            board.loading(&self.model, self.context, *progress);
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }
}
