//! Batch progress on a terminal: a row for each running job, and a bar for the
//! whole run below them. Events only update the state; a tick draws everything
//! at once. Control characters in names are made visible.

use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::super::escape_controls;
use super::screen::{INDICATIF_HZ, Screen, ScreenRow};
use super::{
    JobStats, LoadProgress, ProgressJob, ProgressJobEnd, ProgressJobPhase, ProgressView,
    RunProgress, format,
};

/// The maximum number of job rows.
const MAX_JOB_ROWS: usize = 8;
/// The maximum number of rows for models that are being loaded.
const MAX_LOAD_ROWS: usize = 2;
/// A job without updates for this time is shown as silent.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Minimum time for which a speed is computed.
const MIN_RATE_TIME: Duration = Duration::from_millis(200);
/// Minimum time between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(50);

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Replaces the spinner of a silent job.
const SILENT_MARK: &str = "·";

/// Draws batch progress on a terminal.
pub(super) struct BatchTerminal {
    screen: Screen,
    jobs: Vec<RunningJob>,
    loads: Vec<LoadingModel>,
    /// Lines to be printed above the bars.
    messages: Vec<String>,
    drawn_at: Option<Instant>,
    spinner_step: usize,
}

/// A running job.
struct RunningJob {
    number: usize,
    label: String,
    model: String,
    phase: ProgressJobPhase,
    tokens: u32,
    /// The time and number of tokens of the first update with tokens.
    first_tokens: Option<(Instant, u32)>,
    /// The time of the last update.
    last_update: Instant,
}

struct LoadingModel {
    model: String,
    text: String,
}

impl RunningJob {
    /// Returns for example `writing, 340 at 43.1 tokens/s`. The text stays below
    /// 40 columns, so that it fits on narrow terminals.
    fn state(&self, now: Instant) -> String {
        let mut text = match self.phase {
            ProgressJobPhase::Waiting => "waiting".to_owned(),
            ProgressJobPhase::Loading => "loading".to_owned(),
            ProgressJobPhase::Reading(progress) => {
                format!("reading {} %", format::percent(progress))
            }
            ProgressJobPhase::Reasoning => "thinking".to_owned(),
            ProgressJobPhase::Writing => "writing".to_owned(),
        };
        match self.rate() {
            Some(rate) if !self.is_silent(now) => {
                text += &format!(", {} at {rate:.1} tokens/s", self.tokens);
            }
            _ if self.tokens > 0 => text += &format!(", {}", format::tokens(self.tokens)),
            _ => {}
        }
        if self.is_silent(now) {
            text += &format!(", silent {} s", self.silence(now).as_secs());
        }
        text
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_update)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silence(now) > SILENT_AFTER
    }

    fn rate(&self) -> Option<f64> {
        let (at, tokens) = self.first_tokens?;
        let elapsed = self.last_update.saturating_duration_since(at);
        let new_tokens = self.tokens.saturating_sub(tokens);
        (elapsed >= MIN_RATE_TIME && new_tokens > 0)
            .then(|| f64::from(new_tokens) / elapsed.as_secs_f64())
    }
}

impl BatchTerminal {
    /// Returns a view on stderr, or `None` if stderr does not support drawing.
    pub(super) fn stderr() -> Option<Self> {
        let terminal = Self::new(ProgressDrawTarget::stderr_with_hz(INDICATIF_HZ));
        (!terminal.screen.is_hidden()).then_some(terminal)
    }

    fn new(target: ProgressDrawTarget) -> Self {
        Self {
            screen: Screen::new(target),
            jobs: Vec::new(),
            loads: Vec::new(),
            messages: Vec::new(),
            drawn_at: None,
            spinner_step: 0,
        }
    }

    fn draw_when_due(&mut self, run: &RunProgress, now: Instant) {
        let is_due = |at| now.saturating_duration_since(at) >= DRAW_INTERVAL;
        if self.drawn_at.is_none_or(is_due) {
            self.draw(run, now);
        }
    }

    fn draw(&mut self, run: &RunProgress, now: Instant) {
        self.drawn_at = Some(now);
        let rows = self.rows(run, now);
        let messages = std::mem::take(&mut self.messages);
        self.screen
            .draw(&rows, &overall_text(run, now), run, &messages);
    }

    fn rows(&self, run: &RunProgress, now: Instant) -> Vec<ScreenRow> {
        let spinner = SPINNER[self.spinner_step % SPINNER.len()];
        let digits = run.total.max(1).to_string().len();
        let states: Vec<String> = self.visible_jobs().map(|job| job.state(now)).collect();
        // States are padded to the same width, so that their column is stable.
        let width = states.iter().map(String::len).max().unwrap_or(0);
        let loads = self.loads.iter().take(MAX_LOAD_ROWS).map(|load| ScreenRow {
            text: format!("{spinner} {}", load.text),
            state: String::new(),
        });
        let jobs = self.visible_jobs().zip(states).map(|(job, state)| {
            let spinner = if job.is_silent(now) {
                SILENT_MARK
            } else {
                spinner
            };
            ScreenRow {
                text: format!("{spinner} {:>digits$} {}", job.number, job.label),
                state: format!("{state:width$}"),
            }
        });
        let more = self.jobs.len().saturating_sub(MAX_JOB_ROWS);
        let more = (more > 0).then(|| ScreenRow {
            text: format!("  … and {more} more"),
            state: String::new(),
        });
        loads.chain(jobs).chain(more).collect()
    }

    fn visible_jobs(&self) -> impl Iterator<Item = &RunningJob> {
        self.jobs.iter().take(MAX_JOB_ROWS)
    }
}

/// Returns for example `12/36, 1 failed, 3:12, about 12 min left` (40 columns).
fn overall_text(run: &RunProgress, now: Instant) -> String {
    let mut text = format!("{}/{}", run.completed(), run.total);
    if run.failed > 0 {
        text += &format!(", {} failed", run.failed);
    }
    text += ", ";
    text += &format::clock(now.saturating_duration_since(run.started));
    if let Some(left) = run.remaining(now) {
        text += &format!(", {}", format::time_left(left));
    }
    text
}

impl ProgressView for BatchTerminal {
    fn run_started(&mut self, run: &RunProgress, now: Instant) {
        if run.skipped > 0 {
            self.messages.push(format::skipped(run));
        }
        self.draw(run, now);
    }

    fn model_loading(&mut self, load: LoadProgress<'_>, now: Instant) {
        // Progress of a load counts as an update of the jobs that wait for it.
        for job in &mut self.jobs {
            if job.phase == ProgressJobPhase::Loading && job.model == load.model {
                job.last_update = now;
            }
        }
        let text = format::loading(load, true);
        match self.loads.iter_mut().find(|row| row.model == load.model) {
            Some(row) => row.text = text,
            None => self.loads.push(LoadingModel {
                model: load.model.to_owned(),
                text,
            }),
        }
    }

    fn model_loaded(&mut self, model: &str, _seconds: Option<f64>, _context: Option<u32>) {
        self.model_unloaded(model);
    }

    fn model_unloaded(&mut self, model: &str) {
        self.loads.retain(|load| load.model != model);
    }

    fn job_started(&mut self, job: &ProgressJob<'_>, now: Instant) {
        self.jobs.push(RunningJob {
            number: job.number,
            label: format::short_label(job),
            model: job.model.to_owned(),
            phase: ProgressJobPhase::Waiting,
            tokens: 0,
            first_tokens: None,
            last_update: now,
        });
    }

    fn job_progress(&mut self, number: usize, phase: ProgressJobPhase, tokens: u32, now: Instant) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.number == number) {
            job.phase = phase;
            job.tokens = tokens;
            job.last_update = now;
            if tokens > 0 {
                job.first_tokens.get_or_insert((now, tokens));
            }
        }
    }

    fn tick(&mut self, run: &RunProgress, now: Instant) {
        self.spinner_step = self.spinner_step.wrapping_add(1);
        self.draw_when_due(run, now);
    }

    fn job_ended(
        &mut self,
        run: &RunProgress,
        job: &ProgressJob<'_>,
        end: ProgressJobEnd<'_>,
        _stats: &JobStats,
        now: Instant,
    ) {
        self.jobs.retain(|running| running.number != job.number);
        if let ProgressJobEnd::Failed(reason) = end {
            // A failed load is reported only by the failure of its jobs.
            self.model_unloaded(job.model);
            let label = format::label(job, true);
            let reason = format::reason(reason, true);
            self.messages
                .push(format!("{} {label} failed: {reason}", job.number));
            self.draw_when_due(run, now);
        }
    }

    fn message(&mut self, run: &RunProgress, text: &str, is_warning: bool, now: Instant) {
        let prefix = if is_warning { "warning: " } else { "" };
        // A tab has no fixed width.
        let text = escape_controls(text.trim_end()).replace('\t', "    ");
        self.messages.push(format!("{prefix}{text}"));
        self.draw_when_due(run, now);
    }

    fn finish(&mut self, run: &RunProgress, now: Instant) {
        if !self.messages.is_empty() {
            self.draw(run, now);
        }
        self.screen.clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::super::{BatchProgress, ProgressMode};
    use super::*;

    const STATS: JobStats = JobStats {
        tokens: 1,
        tokens_per_s: None,
        seconds: 1.0,
    };

    fn job(number: usize, model: &str) -> ProgressJob<'_> {
        ProgressJob {
            number,
            name: "x.txt",
            prompt: "think,aps",
            model,
            input: None,
        }
    }

    fn progress_on(rows: u16, columns: u16) -> (BatchProgress, InMemoryTerm) {
        let term = InMemoryTerm::new(rows, columns);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), INDICATIF_HZ);
        (
            BatchProgress::with_view(Box::new(BatchTerminal::new(target))),
            term,
        )
    }

    /// Returns the contents of the terminal some seconds later.
    fn contents_after(progress: &mut BatchProgress, term: &InMemoryTerm, seconds: f64) -> String {
        let now = Instant::now() + Duration::from_secs_f64(seconds);
        progress.view.tick(&progress.run, now);
        term.contents()
    }

    #[test]
    fn a_row_for_each_job_and_a_bar_for_the_run() {
        let (mut progress, term) = progress_on(24, 50);
        progress.run_started(36, 0);
        progress.model_loading("q", Some(8192), Some(0.4));
        assert_eq!(
            contents_after(&mut progress, &term, 1.0).lines().next(),
            Some("⠙ loading q, context 8192: 40 %")
        );
        progress.model_loaded("q", None, None);
        for number in 1..=12 {
            progress.job_started(&job(number, "qwen3-4b"));
        }
        progress.job_ended(&job(1, "qwen3-4b"), ProgressJobEnd::Done, &STATS);
        progress.job_ended(
            &job(2, "qwen3-4b"),
            ProgressJobEnd::Failed("no\nbecause"),
            &STATS,
        );
        progress.remaining_time(Some(Duration::from_secs(725)));
        let now = Instant::now();
        progress
            .view
            .job_progress(3, ProgressJobPhase::Reading(0.4), 0, now);
        progress
            .view
            .job_progress(4, ProgressJobPhase::Writing, 1, now);
        let later = now + Duration::from_secs(1);
        progress
            .view
            .job_progress(4, ProgressJobPhase::Writing, 44, later);
        // Updates of an ended job are ignored.
        progress.job_progress(1, ProgressJobPhase::Writing, 44);
        let shown = contents_after(&mut progress, &term, 2.0);
        let expected = "\
2 think,aps × qwen3-4b failed: no
⠹  3 think,aps × qwen reading 40 %
⠹  4 think,aps × qwen writing, 44 at 43.0 tokens/s
⠹  5 think,aps × qwen waiting
⠹  6 think,aps × qwen waiting
⠹  7 think,aps × qwen waiting
⠹  8 think,aps × qwen waiting
⠹  9 think,aps × qwen waiting
⠹ 10 think,aps × qwen waiting
  … and 2 more
██░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
2/36, 1 failed, 0:02, about 12 min left";
        assert_eq!(shown, expected);
        let shown = contents_after(&mut progress, &term, 12.5);
        let line = shown.lines().find(|line| line.contains(" 4 think"));
        assert_eq!(
            line,
            Some("·  4 think,aps × q writing, 44 tokens, silent 11 s")
        );
        progress.finish();
        assert_eq!(term.contents(), "2 think,aps × qwen3-4b failed: no");
        progress.message("late", false);
        progress.tick();
        assert!(!term.contents().contains("late"));
    }

    #[test]
    fn control_characters_in_names_have_no_effect() {
        let (mut progress, term) = progress_on(24, 80);
        let evil = "a\x1b[2J\x07\r\n\t\u{9b}5A\u{202e}b\0c";
        let name = ProgressJob {
            number: 1,
            name: evil,
            prompt: evil,
            model: evil,
            input: Some(evil),
        };
        progress.run_started(2, 0);
        progress.message("first", true);
        progress.model_loading(evil, None, None);
        progress.job_started(&name);
        let shown = contents_after(&mut progress, &term, 1.0);
        assert_eq!(shown.lines().count(), 5, "{shown}");
        progress.job_ended(&name, ProgressJobEnd::Failed(evil), &STATS);
        progress.message(evil, false);
        let shown = contents_after(&mut progress, &term, 2.0);
        assert!(shown.starts_with("warning: first\n"), "{shown}");
        assert!(shown.contains("a␛[2J␇"), "{shown}");
        assert!(shown.ends_with("0/2, 0:02") || shown.contains("1/2, 1 failed, 0:02"));
    }

    #[test]
    fn finish_clears_small_terminals() {
        for (rows, columns) in [(24, 20), (6, 40), (3, 9), (1, 1)] {
            let (mut progress, term) = progress_on(rows, columns);
            progress.run_started(20, 0);
            for number in 1..=10 {
                progress.job_started(&job(number, "漢字-model"));
                progress.job_progress(number, ProgressJobPhase::Writing, 1000);
                contents_after(&mut progress, &term, 1.0 + number as f64);
            }
            for number in 1..=10 {
                progress.job_ended(&job(number, "漢字-model"), ProgressJobEnd::Done, &STATS);
                contents_after(&mut progress, &term, 20.0 + number as f64);
            }
            progress.finish();
            assert_eq!(term.contents(), "", "{rows} × {columns}");
        }
    }

    #[test]
    fn token_updates_are_cheap() {
        let (mut progress, _term) = progress_on(24, 80);
        progress.run_started(8, 0);
        for number in 1..=8 {
            progress.job_started(&job(number, "m"));
        }
        let start = Instant::now();
        for tokens in 0..100_000 {
            progress.job_progress(8, ProgressJobPhase::Writing, tokens);
        }
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_hidden_terminal_and_quiet_draw_nothing() {
        let hidden = BatchTerminal::new(ProgressDrawTarget::hidden());
        assert!(hidden.screen.is_hidden());
        let mut progress = BatchProgress::new(ProgressMode::Terminal, true);
        progress.run_started(1, 1);
        progress.message("hush", true);
    }
}
