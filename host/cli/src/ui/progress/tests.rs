//! Tests of complete runs as lines, as JSON and on a terminal.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::InMemoryTerm;
use lmstrix::batch::{JobInfo, JobPhase};
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
pub(super) struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Prints nothing before and after the run.
fn no_messages() -> Messages {
    Messages::new(true, false, false)
}

fn job(number: usize, input: Option<&str>) -> JobInfo {
    JobInfo {
        number,
        name: "think.txt".to_owned(),
        prompt: "think,aps".to_owned(),
        model: "qwen3-4b".to_owned(),
        input: input.map(str::to_owned),
    }
}

fn run_of(jobs: usize) -> BatchEvent<'static> {
    BatchEvent::RunStarted { jobs, skipped: 0 }
}

fn finished<'a>(job: &'a JobInfo, end: JobEnd<'a>) -> BatchEvent<'a> {
    BatchEvent::JobFinished {
        job,
        end,
        tokens: 340,
        seconds: 7.884,
    }
}

fn view(mode: ProgressMode, out: impl Write + Send + 'static) -> BatchProgress {
    let out = Box::new(out);
    let view: Box<dyn BatchView> = match mode {
        ProgressMode::Json => Box::new(JsonView::new(out, false, WriteError::default())),
        _ => Box::new(LinesView::new(out, false)),
    };
    BatchProgress::with_view(Some(view), no_messages())
}

fn new_progress(mode: ProgressMode) -> (BatchProgress, SharedBuffer) {
    let out = SharedBuffer::default();
    (view(mode, out.clone()), out)
}

/// Simulates a run with all kinds of events.
fn simulate_run(progress: &mut BatchProgress) {
    let loading = |progress| BatchEvent::ModelLoading {
        model: "qwen3-4b",
        context: Some(8192),
        progress: Some(progress),
    };
    let jobs = [
        job(1, None),
        job(2, Some("one\ntwo")),
        job(3, None),
        job(4, None),
    ];
    let one = |job, end| BatchEvent::JobFinished {
        job,
        end,
        tokens: 1,
        seconds: 0.25,
    };
    for event in [
        BatchEvent::Warning("before the run"),
        BatchEvent::RunStarted {
            jobs: 36,
            skipped: 4,
        },
        loading(0.25),
        loading(0.251),
        BatchEvent::ModelLoaded {
            model: "qwen3-4b",
            seconds: 3.21,
            context: Some(8192),
        },
        BatchEvent::JobQueued(&jobs[0]),
        BatchEvent::JobStarted(&jobs[0]),
        BatchEvent::JobProgressed {
            number: 1,
            phase: JobPhase::Writing,
            tokens: 12,
        },
        BatchEvent::Tick,
        finished(&jobs[0], JobEnd::Done),
        BatchEvent::TimeLeft(Some(Duration::from_secs(725))),
        finished(&jobs[1], JobEnd::Failed("a\nb")),
        one(&jobs[2], JobEnd::Done),
        // The estimate is not printed again: too soon, and less than a twentieth of
        // the run later.
        one(&jobs[3], JobEnd::Stopped),
        BatchEvent::Warning("the server is busy"),
        BatchEvent::Status("trying again"),
        BatchEvent::ModelUnloaded { model: "qwen3-4b" },
        BatchEvent::RunEnded,
        BatchEvent::RunEnded,
        BatchEvent::Status("too late"),
        BatchEvent::Tick,
    ] {
        progress.event(event);
    }
}

#[test]
fn plain_lines() {
    let (mut progress, out) = new_progress(ProgressMode::Plain);
    simulate_run(&mut progress);
    let expected = "\
36 jobs; 4 skipped
loading qwen3-4b, context 8192: 25 %
loaded qwen3-4b in 3.2 s, context 8192
1/36 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 7.9 s
2/36 think,aps × qwen3-4b × one two failed: a
3/36 think,aps × qwen3-4b: 1 token, 4.0 tokens/s, 0.2 s, about 12 min left
3/36 think,aps × qwen3-4b stopped
warning: the server is busy
trying again
unloaded qwen3-4b
";
    assert_eq!(out.text(), expected);
}

#[test]
fn json_lines() {
    let (mut progress, out) = new_progress(ProgressMode::Json);
    simulate_run(&mut progress);
    let text = out.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "begin", "loading", "loaded", "job", "job", "left", "job", "job", "job", "warning",
            "status", "unloaded", "end"
        ]
    );
    let expected = r#"{"kind":"begin","schema":1,"total":36,"skipped":4}
{"kind":"loading","model":"qwen3-4b","context":8192,"progress":0.25}
{"kind":"loaded","model":"qwen3-4b","seconds":3.21,"context":8192}
{"kind":"job","state":"started","number":1,"name":"think.txt","prompt":"think,aps","model":"qwen3-4b","input":null,"tokens":null,"tokens_per_s":null,"seconds":null,"error":null}
{"kind":"job","state":"done","number":1,"name":"think.txt","prompt":"think,aps","model":"qwen3-4b","input":null,"tokens":340,"tokens_per_s":43.125,"seconds":7.884,"error":null}
{"kind":"left","seconds":725.0}
{"kind":"job","state":"failed","number":2,"name":"think.txt","prompt":"think,aps","model":"qwen3-4b","input":"one\ntwo","tokens":340,"tokens_per_s":43.125,"seconds":7.884,"error":"a\nb"}"#;
    let begin: Vec<&str> = text.lines().take(7).collect();
    assert_eq!(begin.join("\n"), expected);
    assert_eq!(lines[8]["state"], "stopped");
    assert_eq!(lines[12]["failed"], 1);
}

#[test]
fn json_has_an_end_exactly_if_it_has_a_start() {
    let (mut progress, out) = new_progress(ProgressMode::Json);
    progress.event(BatchEvent::Status("before the run"));
    drop(progress);
    assert_eq!(out.text(), "");
    let (mut progress, out) = new_progress(ProgressMode::Json);
    progress.event(run_of(0));
    drop(progress);
    assert_eq!(out.text().lines().count(), 2);
}

#[test]
fn quiet_suppresses_everything_but_json() {
    for (mode, quiet, has_view) in [
        (ProgressMode::Json, true, true),
        (ProgressMode::Plain, false, true),
        (ProgressMode::Plain, true, false),
        (ProgressMode::Terminal, true, false),
        (ProgressMode::None, false, false),
    ] {
        let messages = Messages::new(quiet, false, false);
        let progress = BatchProgress::new(mode, messages, WriteError::default());
        assert_eq!(progress.view.is_some(), has_view, "{mode:?}");
    }
}

/// Accepts one write, then fails.
struct BrokenPipe(SharedBuffer, usize);

impl Write for BrokenPipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 += 1;
        assert!(self.1 <= 2, "written to after a failure");
        match self.1 {
            1 => self.0.write(bytes),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_reader_is_not_an_error() {
    let out = SharedBuffer::default();
    simulate_run(&mut view(ProgressMode::Json, BrokenPipe(out.clone(), 0)));
    assert_eq!(out.text().lines().count(), 1);
}

/// Ends `jobs` jobs at a constant rate; every thousandth fails.
fn end_jobs(jobs: usize, per_s: usize) -> String {
    let (mut progress, out) = new_progress(ProgressMode::Plain);
    let start = Instant::now();
    let left = Some(Duration::from_secs(1_000_000));
    for event in [run_of(jobs), BatchEvent::TimeLeft(left)] {
        progress.event_at(event, start);
    }
    for number in 1..=jobs {
        let now = start + Duration::from_secs(number as u64) / per_s as u32;
        let end = match number % 1000 {
            0 => JobEnd::Failed("no"),
            _ => JobEnd::Done,
        };
        progress.event_at(finished(&job(number, None), end), now);
        progress.event_at(BatchEvent::Tick, now);
    }
    drop(progress);
    out.text()
}

#[test]
fn many_fast_jobs_are_summarized() {
    let text = end_jobs(10_000, 1000);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() < 40, "{text}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("failed: no"))
            .count(),
        10
    );
    let mut summaries = lines.iter().filter(|line| line.contains("0 done"));
    assert!(
        summaries.any(|line| line.contains(" failed, about 12 days left")),
        "{text}"
    );
    // The last job failed, so it has its own line before the summary of the others.
    let end = "10000/10000 think,aps × qwen3-4b failed: no\n10000/10000 done, 10 failed\n";
    assert!(text.ends_with(end), "{text}");

    let text = end_jobs(9_999, 50);
    assert!(text.ends_with("9999/9999 done, 9 failed\n"), "{text}");
    assert!(text.lines().count() < 10 + 9 + 200 / 5 + 5, "{text}");
}

#[test]
fn slow_jobs_have_their_own_lines_with_occasional_estimates() {
    let text = end_jobs(999, 9);
    assert_eq!(text.lines().count(), 999);
    let estimates = text.lines().filter(|line| line.contains(" left")).count();
    assert!((20..=24).contains(&estimates), "{estimates}");
}

#[test]
fn jobs_have_their_own_lines_again_after_a_burst() {
    let (mut progress, out) = new_progress(ProgressMode::Plain);
    let start = Instant::now();
    let job = job(1, None);
    progress.event_at(run_of(100), start);
    let times = std::iter::repeat_n(0, 30).chain([3, 4]);
    for second in times {
        let now = start + Duration::from_secs(second);
        progress.event_at(finished(&job, JobEnd::Done), now);
    }
    let text = out.text();
    let lines: Vec<&str> = text.lines().skip(9).collect();
    assert_eq!(
        lines,
        [
            "10/100 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 7.9 s",
            "31/100 done",
            "32/100 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 7.9 s",
        ]
    );
}

/// A batch on a terminal, at injected times.
struct Terminal {
    progress: BatchProgress,
    term: InMemoryTerm,
    start: Instant,
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Self {
        let term = InMemoryTerm::new(rows, columns);
        let view = TerminalView::new(Screen::in_memory(&term));
        Self {
            progress: BatchProgress::with_view(Some(Box::new(view)), no_messages()),
            term,
            start: Instant::now(),
        }
    }

    fn event(&mut self, seconds: f64, event: BatchEvent<'_>) {
        let now = self.start + Duration::from_secs_f64(seconds);
        self.progress.event_at(event, now);
    }

    fn progressed(&mut self, seconds: f64, number: usize, phase: JobPhase, tokens: u32) {
        let event = BatchEvent::JobProgressed {
            number,
            phase,
            tokens,
        };
        self.event(seconds, event);
    }

    /// Returns the contents after a tick.
    fn contents(&mut self, seconds: f64) -> String {
        self.event(seconds, BatchEvent::Tick);
        self.term.contents()
    }
}

#[test]
fn a_terminal_has_a_row_for_each_job_and_a_bar_for_the_run() {
    let mut terminal = Terminal::new(24, 50);
    let jobs: Vec<JobInfo> = (1..=12).map(|number| job(number, None)).collect();
    terminal.event(0.0, run_of(36));
    let loading = BatchEvent::ModelLoading {
        model: "q",
        context: Some(8192),
        progress: Some(0.4),
    };
    terminal.event(0.0, loading);
    assert_eq!(
        terminal.contents(0.2).lines().next(),
        Some("⠙ loading q, context 8192: 40 %")
    );
    let loaded = BatchEvent::ModelLoaded {
        model: "q",
        seconds: 1.0,
        context: None,
    };
    terminal.event(0.2, loaded);
    for job in &jobs {
        terminal.event(0.2, BatchEvent::JobStarted(job));
    }
    terminal.event(0.2, finished(&jobs[0], JobEnd::Done));
    terminal.event(0.2, finished(&jobs[1], JobEnd::Failed("no\nbecause")));
    let left = Some(Duration::from_secs(725));
    terminal.event(0.2, BatchEvent::TimeLeft(left));
    for (number, done) in [(3, 0.4), (5, 0.0)] {
        let phase = JobPhase::Reading { done, tokens: None };
        terminal.progressed(0.5, number, phase, 0);
    }
    terminal.progressed(0.5, 6, JobPhase::Loading(None), 0);
    terminal.progressed(0.5, 4, JobPhase::Writing, 1);
    terminal.progressed(1.5, 4, JobPhase::Writing, 44);
    // Updates of an ended job are ignored.
    terminal.progressed(1.5, 1, JobPhase::Writing, 44);
    let expected = "\
2 think,aps × qwen3-4b failed: no
⠋  3 think,aps × qwen reading 40 %
⠋  4 think,aps × qwen writing, 44 at 43.0 tokens/s
⠋  5 think,aps × qwen waiting
⠋  6 think,aps × qwen loading
⠋  7 think,aps × qwen waiting
⠋  8 think,aps × qwen waiting
⠋  9 think,aps × qwen waiting
⠋ 10 think,aps × qwen waiting
  … and 2 more
██░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
2/36, 1 failed, 0:02, about 12 min left";
    assert_eq!(terminal.contents(2.0), expected);
    let shown = terminal.contents(13.0);
    let row = shown.lines().find(|line| line.contains(" 4 think"));
    assert_eq!(
        row,
        Some("·  4 think,aps × q writing, 44 tokens, silent 11 s")
    );
    for event in [
        BatchEvent::RunEnded,
        BatchEvent::Status("late"),
        BatchEvent::Tick,
    ] {
        terminal.event(13.0, event);
        let shown = terminal.term.contents();
        assert_eq!(shown, "2 think,aps × qwen3-4b failed: no");
    }
}

#[test]
fn control_characters_in_names_have_no_effect() {
    let mut terminal = Terminal::new(24, 80);
    let evil = "a\x1b[2J\x07\r\n\t\u{9b}5A\u{202e}b\0c";
    let job = JobInfo {
        number: 1,
        name: evil.to_owned(),
        prompt: evil.to_owned(),
        model: evil.to_owned(),
        input: Some(evil.to_owned()),
    };
    let loading = BatchEvent::ModelLoading {
        model: evil,
        context: None,
        progress: None,
    };
    for event in [
        run_of(2),
        BatchEvent::Warning("first"),
        loading,
        BatchEvent::JobStarted(&job),
    ] {
        terminal.event(0.0, event);
    }
    let shown = terminal.contents(1.0);
    assert_eq!(shown.lines().count(), 5, "{shown}");
    terminal.event(1.0, finished(&job, JobEnd::Failed(evil)));
    terminal.event(1.0, BatchEvent::Status(evil));
    let shown = terminal.contents(2.0);
    assert!(shown.starts_with("warning: first\n"), "{shown}");
    assert!(shown.contains("a␛[2J␇"), "{shown}");
    assert!(shown.ends_with("1/2, 1 failed, 0:02"), "{shown}");
}

#[test]
fn the_end_clears_small_terminals() {
    for (rows, columns) in [(24, 20), (6, 40), (3, 9), (1, 1)] {
        let mut terminal = Terminal::new(rows, columns);
        let jobs: Vec<JobInfo> = (1..=10).map(|number| job(number, Some("漢字"))).collect();
        terminal.event(0.0, run_of(20));
        for (job, seconds) in jobs.iter().zip(1_u32..) {
            terminal.event(seconds.into(), BatchEvent::JobStarted(job));
            terminal.progressed(seconds.into(), job.number, JobPhase::Writing, 1000);
            terminal.contents(seconds.into());
        }
        for (job, seconds) in jobs.iter().zip(20_u32..) {
            terminal.event(seconds.into(), finished(job, JobEnd::Done));
            terminal.contents(seconds.into());
        }
        terminal.event(40.0, BatchEvent::RunEnded);
        assert_eq!(terminal.term.contents(), "", "{rows} × {columns}");
    }
}

#[test]
fn token_updates_are_cheap() {
    let mut terminal = Terminal::new(24, 80);
    let jobs: Vec<JobInfo> = (1..=8).map(|number| job(number, None)).collect();
    terminal.event(0.0, run_of(8));
    for job in &jobs {
        terminal.event(0.0, BatchEvent::JobStarted(job));
    }
    let start = Instant::now();
    for tokens in 0..100_000 {
        terminal.progressed(0.0, 8, JobPhase::Writing, tokens);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}
