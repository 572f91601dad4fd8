//! Tests of complete runs as lines and as JSON.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    fn text(&self) -> String {
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

const STATS: JobStats = JobStats {
    tokens: 340,
    tokens_per_s: Some(43.123_456),
    seconds: 8.1,
};

fn job(number: usize, input: Option<&str>) -> ProgressJob<'_> {
    ProgressJob {
        number,
        name: "think.txt",
        prompt: "think,aps",
        model: "qwen3-4b",
        input,
    }
}

fn new_progress(mode: ProgressMode) -> (BatchProgress, SharedBuffer) {
    let out = SharedBuffer::default();
    let progress = BatchProgress::with_output(mode, false, Box::new(out.clone()));
    (progress, out)
}

/// Simulates a run with all kinds of events.
fn simulate_run(progress: &mut BatchProgress) {
    progress.run_started(36, 4);
    progress.model_loading("qwen3-4b", Some(8192), Some(0.25));
    progress.model_loading("qwen3-4b", Some(8192), Some(0.251));
    progress.model_loaded("qwen3-4b", Some(3.21), Some(8192));
    progress.job_started(&job(1, None));
    progress.job_progress(1, ProgressJobPhase::Writing, 12);
    progress.tick();
    progress.job_ended(&job(1, None), ProgressJobEnd::Done, &STATS);
    progress.remaining_time(Some(Duration::from_secs(725)));
    progress.job_ended(
        &job(2, Some("one\ntwo")),
        ProgressJobEnd::Failed("a\nb"),
        &STATS,
    );
    let one = JobStats {
        tokens: 1,
        tokens_per_s: None,
        seconds: 0.25,
    };
    progress.job_ended(&job(3, None), ProgressJobEnd::Done, &one);
    // The estimate is not printed again: too soon, and less than a twentieth of
    // the run later.
    progress.job_ended(&job(4, None), ProgressJobEnd::Stopped, &one);
    progress.message("the server is busy", true);
    progress.message("trying again", false);
    progress.model_unloaded("qwen3-4b");
    progress.finish();
    progress.finish();
    progress.message("too late", false);
}

#[test]
fn plain_lines() {
    let (mut progress, out) = new_progress(ProgressMode::Plain);
    simulate_run(&mut progress);
    let expected = "\
36 jobs; 4 skipped
loading qwen3-4b, context 8192: 25 %
loaded qwen3-4b in 3.2 s, context 8192
1/36 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 8.1 s
2/36 think,aps × qwen3-4b × one two failed: a
3/36 think,aps × qwen3-4b: 1 token, 0.2 s, about 12 min left
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
{"kind":"job","state":"done","number":1,"name":"think.txt","prompt":"think,aps","model":"qwen3-4b","input":null,"tokens":340,"tokens_per_s":43.123,"seconds":8.1,"error":null}
{"kind":"left","seconds":725.0}
{"kind":"job","state":"failed","number":2,"name":"think.txt","prompt":"think,aps","model":"qwen3-4b","input":"one\ntwo","tokens":340,"tokens_per_s":43.123,"seconds":8.1,"error":"a\nb"}"#;
    let begin: Vec<&str> = text.lines().take(7).collect();
    assert_eq!(begin.join("\n"), expected);
    assert_eq!(lines[8]["state"], "stopped");
    assert_eq!(lines[12]["failed"], 1);
}

#[test]
fn json_has_no_end_without_a_start_and_ignores_quiet() {
    let out = SharedBuffer::default();
    drop(BatchProgress::with_output(
        ProgressMode::Json,
        true,
        Box::new(out.clone()),
    ));
    assert_eq!(out.text(), "");
    let mut progress = BatchProgress::with_output(ProgressMode::Json, true, Box::new(out.clone()));
    progress.run_started(0, 0);
    drop(progress);
    assert_eq!(out.text().lines().count(), 2);
    let quiet = SharedBuffer::default();
    simulate_run(&mut BatchProgress::with_output(
        ProgressMode::Plain,
        true,
        Box::new(quiet.clone()),
    ));
    simulate_run(&mut BatchProgress::with_output(
        ProgressMode::None,
        false,
        Box::new(quiet.clone()),
    ));
    assert_eq!(quiet.text(), "");
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
    let pipe = BrokenPipe(out.clone(), 0);
    simulate_run(&mut BatchProgress::with_output(
        ProgressMode::Json,
        false,
        Box::new(pipe),
    ));
    assert_eq!(out.text().lines().count(), 1);
}

/// Ends `jobs` jobs at a constant rate; every thousandth fails.
fn end_jobs(jobs: usize, per_s: usize) -> String {
    let (mut progress, out) = new_progress(ProgressMode::Plain);
    progress.run_started(jobs, 0);
    progress.remaining_time(Some(Duration::from_secs(1_000_000)));
    let start = Instant::now();
    for number in 1..=jobs {
        let now = start + Duration::from_secs(number as u64) / per_s as u32;
        let end = match number % 1000 {
            0 => ProgressJobEnd::Failed("no"),
            _ => ProgressJobEnd::Done,
        };
        progress.job_ended_at(&job(number, None), end, &STATS, now);
        progress.view.tick(&progress.run, now);
    }
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
    // The last job failed, so it has its own line.
    assert!(
        text.ends_with("10000/10000 think,aps × qwen3-4b failed: no\n"),
        "{text}"
    );

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
    progress.run_started(100, 0);
    let start = Instant::now();
    for number in 1..=30 {
        progress.job_ended_at(&job(number, None), ProgressJobEnd::Done, &STATS, start);
    }
    for second in [3, 4] {
        let now = start + Duration::from_secs(second);
        progress.job_ended_at(&job(31, None), ProgressJobEnd::Done, &STATS, now);
    }
    let text = out.text();
    let lines: Vec<&str> = text.lines().skip(9).collect();
    assert_eq!(
        lines,
        [
            "10/100 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 8.1 s",
            "31/100 done",
            "32/100 think,aps × qwen3-4b: 340 tokens, 43.1 tokens/s, 8.1 s",
        ]
    );
}
