//! Whole runs, as lines and as JSON.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const TALLY: Tally = Tally {
    tokens: 340,
    tokens_per_s: Some(43.123_456),
    seconds: 8.1,
};

fn job(number: usize, input: Option<&str>) -> JobName<'_> {
    JobName {
        number,
        name: "think.txt",
        prompt: "think,aps",
        model: "qwen3-4b",
        input,
    }
}

fn board(style: Style) -> (Board, Shared) {
    let out = Shared::default();
    let board = Board::with_output(style, false, Box::new(out.clone()));
    (board, out)
}

/// A run with something of everything.
fn play(board: &mut Board) {
    board.begin(36, 4);
    board.loading("qwen3-4b", Some(8192), Some(0.25));
    board.loading("qwen3-4b", Some(8192), Some(0.251));
    board.loaded("qwen3-4b", Some(3.21), Some(8192));
    board.start(&job(1, None));
    board.phase(1, Phase::Writing, 12);
    board.tick();
    board.end(&job(1, None), Ended::Done, &TALLY);
    board.left(Some(Duration::from_secs(725)));
    board.end(&job(2, Some("one\ntwo")), Ended::Failed("a\nb"), &TALLY);
    let one = Tally {
        tokens: 1,
        tokens_per_s: None,
        seconds: 0.25,
    };
    board.end(&job(3, None), Ended::Done, &one);
    // No more news of what is left: too soon, and less than a twentieth.
    board.end(&job(4, None), Ended::Stopped, &one);
    board.say("the server is busy", true);
    board.say("trying again", false);
    board.unloaded("qwen3-4b");
    board.finish();
    board.finish();
    board.say("too late", false);
}

#[test]
fn plain_lines() {
    let (mut board, out) = board(Style::Plain);
    play(&mut board);
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
    let (mut board, out) = board(Style::Json);
    play(&mut board);
    let text = out.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|it| it["kind"].as_str()).collect();
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
fn a_run_that_never_began_has_no_end_and_quiet_is_no_matter_to_programs() {
    let out = Shared::default();
    drop(Board::with_output(Style::Json, true, Box::new(out.clone())));
    assert_eq!(out.text(), "");
    let mut board = Board::with_output(Style::Json, true, Box::new(out.clone()));
    board.begin(0, 0);
    drop(board);
    assert_eq!(out.text().lines().count(), 2);
    let quiet = Shared::default();
    play(&mut Board::with_output(
        Style::Plain,
        true,
        Box::new(quiet.clone()),
    ));
    play(&mut Board::with_output(
        Style::None,
        false,
        Box::new(quiet.clone()),
    ));
    assert_eq!(quiet.text(), "");
}

/// Takes one line, then has gone.
struct Gone(Shared, usize);

impl Write for Gone {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 += 1;
        assert!(self.1 <= 2, "written to after it had gone");
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
fn a_reader_that_has_gone_is_no_error() {
    let out = Shared::default();
    let gone = Gone(out.clone(), 0);
    play(&mut Board::with_output(Style::Json, false, Box::new(gone)));
    assert_eq!(out.text().lines().count(), 1);
}

/// Ends `jobs` jobs at even distances, of which every thousandth fails.
fn hurry(jobs: usize, per_s: usize) -> String {
    let (mut board, out) = board(Style::Plain);
    board.begin(jobs, 0);
    board.left(Some(Duration::from_secs(1_000_000)));
    let began = Instant::now();
    for number in 1..=jobs {
        let now = began + Duration::from_secs(number as u64) / per_s as u32;
        let ended = match number % 1000 {
            0 => Ended::Failed("no"),
            _ => Ended::Done,
        };
        board.end_at(&job(number, None), ended, &TALLY, now);
        board.view.tick(&board.run, now);
    }
    out.text()
}

#[test]
fn ten_thousand_fast_jobs_are_few_lines_and_the_last_line_tells_all() {
    let text = hurry(10_000, 1000);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() < 40, "{text}");
    assert_eq!(
        lines.iter().filter(|it| it.contains("failed: no")).count(),
        10
    );
    let many: Vec<&&str> = lines.iter().filter(|it| it.contains("0 done")).collect();
    assert!(
        many.iter()
            .any(|it| it.contains(" failed, about 12 days left")),
        "{text}"
    );
    // The last one failed, and that is a line, too.
    assert!(
        text.ends_with("10000/10000 think,aps × qwen3-4b failed: no\n"),
        "{text}"
    );

    let text = hurry(9_999, 50);
    assert!(text.ends_with("9999/9999 done, 9 failed\n"), "{text}");
    assert!(text.lines().count() < 10 + 9 + 200 / 5 + 5, "{text}");
}

#[test]
fn slow_jobs_have_all_their_lines_and_the_estimate_comes_now_and_then() {
    let text = hurry(999, 9);
    assert_eq!(text.lines().count(), 999);
    let told = text.lines().filter(|it| it.contains(" left")).count();
    assert!((20..=24).contains(&told), "{told}");
}

#[test]
fn after_a_rush_jobs_have_lines_again() {
    let (mut board, out) = board(Style::Plain);
    board.begin(100, 0);
    let began = Instant::now();
    for number in 1..=30 {
        board.end_at(&job(number, None), Ended::Done, &TALLY, began);
    }
    for second in [3, 4] {
        let now = began + Duration::from_secs(second);
        board.end_at(&job(31, None), Ended::Done, &TALLY, now);
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
