//! The board on a terminal: a line for each running job, and below them a bar
//! for the whole run. What happens is only stored; a tick draws all of it, in
//! one go. Names come from strangers, and all of them are made visible.

use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::super::visible;
use super::screen::{OWN_HZ, Row, Screen};
use super::{Ended, JobName, Load, Phase, Run, Tally, View, words};

/// Job lines; what is more than a screen is no use.
const JOB_LINES: usize = 8;
/// Lines on models that are being loaded.
const LOAD_LINES: usize = 2;
/// After so long without a sign of life a job is called silent.
const SILENT: Duration = Duration::from_secs(3);
/// Tokens of less time than this are no measure of speed.
const MEASURED: Duration = Duration::from_millis(200);
/// Between two drawings.
const EVERY: Duration = Duration::from_millis(50);

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Stands where the spinner of a silent job would turn.
const STILL: &str = "·";

/// Draws bars.
pub(super) struct Terminal {
    screen: Screen,
    jobs: Vec<Job>,
    loads: Vec<Loading>,
    /// To be printed above the bars.
    said: Vec<String>,
    drawn: Option<Instant>,
    turn: usize,
}

/// A running job.
struct Job {
    number: usize,
    label: String,
    model: String,
    phase: Phase,
    tokens: u32,
    /// The first sign with tokens in it.
    first: Option<(Instant, u32)>,
    /// The last sign of life.
    sign: Instant,
}

struct Loading {
    model: String,
    text: String,
}

impl Job {
    /// `writing, 340 at 43.1 tokens/s`. This stays below 40 columns, so that it
    /// fits where the name of the job does not.
    fn state(&self, now: Instant) -> String {
        let mut text = match self.phase {
            Phase::Waiting => "waiting".to_owned(),
            Phase::Loading => "loading".to_owned(),
            Phase::Reading(share) => format!("reading {} %", words::percent(share)),
            Phase::Thinking => "thinking".to_owned(),
            Phase::Writing => "writing".to_owned(),
        };
        match self.rate() {
            Some(rate) if !self.is_silent(now) => {
                text += &format!(", {} at {rate:.1} tokens/s", self.tokens);
            }
            _ if self.tokens > 0 => text += &format!(", {}", words::tokens(self.tokens)),
            _ => {}
        }
        if self.is_silent(now) {
            text += &format!(", silent {} s", self.silence(now).as_secs());
        }
        text
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.sign)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silence(now) > SILENT
    }

    fn rate(&self) -> Option<f64> {
        let (at, tokens) = self.first?;
        let passed = self.sign.saturating_duration_since(at);
        let came = self.tokens.saturating_sub(tokens);
        (passed >= MEASURED && came > 0).then(|| f64::from(came) / passed.as_secs_f64())
    }
}

impl Terminal {
    /// `None` if stderr is nothing that can be drawn on.
    pub(super) fn stderr() -> Option<Self> {
        let terminal = Self::new(ProgressDrawTarget::stderr_with_hz(OWN_HZ));
        (!terminal.screen.is_hidden()).then_some(terminal)
    }

    fn new(target: ProgressDrawTarget) -> Self {
        Self {
            screen: Screen::new(target),
            jobs: Vec::new(),
            loads: Vec::new(),
            said: Vec::new(),
            drawn: None,
            turn: 0,
        }
    }

    fn draw_when_due(&mut self, run: &Run, now: Instant) {
        let is_due = |at| now.saturating_duration_since(at) >= EVERY;
        if self.drawn.is_none_or(is_due) {
            self.draw(run, now);
        }
    }

    fn draw(&mut self, run: &Run, now: Instant) {
        self.drawn = Some(now);
        let rows = self.rows(run, now);
        let said = std::mem::take(&mut self.said);
        self.screen.draw(&rows, &overall(run, now), run, &said);
    }

    fn rows(&self, run: &Run, now: Instant) -> Vec<Row> {
        let spinner = SPINNER[self.turn % SPINNER.len()];
        let digits = run.total.max(1).to_string().len();
        let states: Vec<String> = self.shown().map(|it| it.state(now)).collect();
        // One column for all of them, or they would jump about.
        let width = states.iter().map(String::len).max().unwrap_or(0);
        let loads = self.loads.iter().take(LOAD_LINES).map(|load| Row {
            text: format!("{spinner} {}", load.text),
            state: String::new(),
        });
        let jobs = self.shown().zip(states).map(|(job, state)| {
            let spinner = if job.is_silent(now) { STILL } else { spinner };
            Row {
                text: format!("{spinner} {:>digits$} {}", job.number, job.label),
                state: format!("{state:width$}"),
            }
        });
        let more = self.jobs.len().saturating_sub(JOB_LINES);
        let more = (more > 0).then(|| Row {
            text: format!("  … and {more} more"),
            state: String::new(),
        });
        loads.chain(jobs).chain(more).collect()
    }

    fn shown(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().take(JOB_LINES)
    }
}

/// `12/36, 1 failed, 3:12, about 12 min left`: 40 columns.
fn overall(run: &Run, now: Instant) -> String {
    let mut text = format!("{}/{}", run.over(), run.total);
    if run.failed > 0 {
        text += &format!(", {} failed", run.failed);
    }
    text += ", ";
    text += &words::clock(now.saturating_duration_since(run.began));
    if let Some(left) = run.left(now) {
        text += &format!(", {}", words::left(left));
    }
    text
}

impl View for Terminal {
    fn begin(&mut self, run: &Run, now: Instant) {
        if run.skipped > 0 {
            self.said.push(words::skipped(run));
        }
        self.draw(run, now);
    }

    fn loading(&mut self, load: Load<'_>, now: Instant) {
        // A load that comes on is a sign of life of all who wait for it.
        for job in &mut self.jobs {
            if job.phase == Phase::Loading && job.model == load.model {
                job.sign = now;
            }
        }
        let text = words::loading(load, true);
        match self.loads.iter_mut().find(|it| it.model == load.model) {
            Some(loading) => loading.text = text,
            None => self.loads.push(Loading {
                model: load.model.to_owned(),
                text,
            }),
        }
    }

    fn loaded(&mut self, model: &str, _seconds: Option<f64>, _context: Option<u32>) {
        self.unloaded(model);
    }

    fn unloaded(&mut self, model: &str) {
        self.loads.retain(|it| it.model != model);
    }

    fn start(&mut self, job: &JobName<'_>, now: Instant) {
        self.jobs.push(Job {
            number: job.number,
            label: words::short_label(job),
            model: job.model.to_owned(),
            phase: Phase::Waiting,
            tokens: 0,
            first: None,
            sign: now,
        });
    }

    fn phase(&mut self, number: usize, phase: Phase, tokens: u32, now: Instant) {
        if let Some(job) = self.jobs.iter_mut().find(|it| it.number == number) {
            job.phase = phase;
            job.tokens = tokens;
            job.sign = now;
            if tokens > 0 {
                job.first.get_or_insert((now, tokens));
            }
        }
    }

    fn tick(&mut self, run: &Run, now: Instant) {
        self.turn = self.turn.wrapping_add(1);
        self.draw_when_due(run, now);
    }

    fn end(
        &mut self,
        run: &Run,
        job: &JobName<'_>,
        ended: Ended<'_>,
        _tally: &Tally,
        now: Instant,
    ) {
        self.jobs.retain(|it| it.number != job.number);
        if let Ended::Failed(reason) = ended {
            // Nobody tells of a load that failed but the jobs that wanted it.
            self.unloaded(job.model);
            let label = words::label(job, true);
            let reason = words::reason(reason, true);
            self.said
                .push(format!("{} {label} failed: {reason}", job.number));
            self.draw_when_due(run, now);
        }
    }

    fn say(&mut self, run: &Run, text: &str, is_warning: bool, now: Instant) {
        let front = if is_warning { "warning: " } else { "" };
        // A tab has no width that could be known.
        let text = visible(text.trim_end()).replace('\t', "    ");
        self.said.push(format!("{front}{text}"));
        self.draw_when_due(run, now);
    }

    fn finish(&mut self, run: &Run, now: Instant) {
        if !self.said.is_empty() {
            self.draw(run, now);
        }
        self.screen.clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::super::{Board, Style};
    use super::*;

    const TALLY: Tally = Tally {
        tokens: 1,
        tokens_per_s: None,
        seconds: 1.0,
    };

    fn job(number: usize, model: &str) -> JobName<'_> {
        JobName {
            number,
            name: "x.txt",
            prompt: "think,aps",
            model,
            input: None,
        }
    }

    fn on(rows: u16, columns: u16) -> (Board, InMemoryTerm) {
        let term = InMemoryTerm::new(rows, columns);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), OWN_HZ);
        (Board::with(Box::new(Terminal::new(target))), term)
    }

    /// What is seen some seconds later.
    fn after(board: &mut Board, term: &InMemoryTerm, seconds: f64) -> String {
        let now = Instant::now() + Duration::from_secs_f64(seconds);
        board.view.tick(&board.run, now);
        term.contents()
    }

    #[test]
    fn a_line_for_each_job_and_a_bar_for_all() {
        let (mut board, term) = on(24, 50);
        board.begin(36, 0);
        board.loading("q", Some(8192), Some(0.4));
        assert_eq!(
            after(&mut board, &term, 1.0).lines().next(),
            Some("⠙ loading q, context 8192: 40 %")
        );
        board.loaded("q", None, None);
        for number in 1..=12 {
            board.start(&job(number, "qwen3-4b"));
        }
        board.end(&job(1, "qwen3-4b"), Ended::Done, &TALLY);
        board.end(&job(2, "qwen3-4b"), Ended::Failed("no\nbecause"), &TALLY);
        board.left(Some(Duration::from_secs(725)));
        let now = Instant::now();
        board.view.phase(3, Phase::Reading(0.4), 0, now);
        board.view.phase(4, Phase::Writing, 1, now);
        let later = now + Duration::from_secs(1);
        board.view.phase(4, Phase::Writing, 44, later);
        // Of a job that is over nothing is known any more.
        board.phase(1, Phase::Writing, 44);
        let shown = after(&mut board, &term, 2.0);
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
        let shown = after(&mut board, &term, 12.5);
        let line = shown.lines().find(|it| it.contains(" 4 think"));
        assert_eq!(
            line,
            Some("·  4 think,aps × q writing, 44 tokens, silent 11 s")
        );
        board.finish();
        assert_eq!(term.contents(), "2 think,aps × qwen3-4b failed: no");
        board.say("late", false);
        board.tick();
        assert!(!term.contents().contains("late"));
    }

    #[test]
    fn names_do_nothing_to_the_terminal() {
        let (mut board, term) = on(24, 80);
        let evil = "a\x1b[2J\x07\r\n\t\u{9b}5A\u{202e}b\0c";
        let name = JobName {
            number: 1,
            name: evil,
            prompt: evil,
            model: evil,
            input: Some(evil),
        };
        board.begin(2, 0);
        board.say("first", true);
        board.loading(evil, None, None);
        board.start(&name);
        let shown = after(&mut board, &term, 1.0);
        assert_eq!(shown.lines().count(), 5, "{shown}");
        board.end(&name, Ended::Failed(evil), &TALLY);
        board.say(evil, false);
        let shown = after(&mut board, &term, 2.0);
        assert!(shown.starts_with("warning: first\n"), "{shown}");
        assert!(shown.contains("a␛[2J␇"), "{shown}");
        assert!(shown.ends_with("0/2, 0:02") || shown.contains("1/2, 1 failed, 0:02"));
    }

    #[test]
    fn nothing_is_left_over_where_lines_wrap_or_rows_are_few() {
        for (rows, columns) in [(24, 20), (6, 40), (3, 9), (1, 1)] {
            let (mut board, term) = on(rows, columns);
            board.begin(20, 0);
            for number in 1..=10 {
                board.start(&job(number, "漢字-model"));
                board.phase(number, Phase::Writing, 1000);
                after(&mut board, &term, 1.0 + number as f64);
            }
            for number in 1..=10 {
                board.end(&job(number, "漢字-model"), Ended::Done, &TALLY);
                after(&mut board, &term, 20.0 + number as f64);
            }
            board.finish();
            assert_eq!(term.contents(), "", "{rows} × {columns}");
        }
    }

    #[test]
    fn a_token_costs_nothing_to_speak_of() {
        let (mut board, _term) = on(24, 80);
        board.begin(8, 0);
        for number in 1..=8 {
            board.start(&job(number, "m"));
        }
        let began = Instant::now();
        for tokens in 0..100_000 {
            board.phase(8, Phase::Writing, tokens);
        }
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_terminal_of_no_use_and_quiet_draw_nothing() {
        let hidden = Terminal::new(ProgressDrawTarget::hidden());
        assert!(hidden.screen.is_hidden());
        let mut board = Board::new(Style::Terminal, true);
        board.begin(1, 1);
        board.say("hush", true);
    }
}
