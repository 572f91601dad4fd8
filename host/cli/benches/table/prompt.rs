//! A short prompt from the command line to the answer, with a compiled pack.

use crate::compare;
use crate::machine::{Call, Machine};
use crate::peers::{Peer, Peers, chat_body, configure, start_studio};
use crate::report::{Figure, Row, times};
use crate::servers::studio::{Answer, FakeStudio};
use crate::timing::Failure;

/// Each program runs the prompt this many times.
const ROUNDS: usize = 15;

/// The text of the prompt.
const TEXT: &str = "The shop is closed on Mondays. It opens on Tuesday at nine.";

/// The answer of the fake model.
const ANSWER: &str = "The shop is closed on Mondays.";

pub(crate) fn rows(peers: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = Machine::new()?;
    let studio = start_studio(Answer::Text(ANSWER.to_owned()));
    let url = studio.url();
    configure(&machine, &url)?;
    let prompt = format!("Summarize the text below in one short sentence.\n\n{TEXT}");
    let endpoint = format!("{url}/v1/chat/completions");
    let body = chat_body(&prompt);

    let ours = Call::ours(
        &["infer", "tldr", "--text", TEXT, "-m", "m", "--engine", &url],
        "lmstrix-host infer tldr --text TEXT -m m --engine URL",
    )
    .expecting(ANSWER);
    let curl = ["-sSN", "--fail", "--json", &body, &endpoint];
    let others = [
        peers.call(Peer::Curl, &curl, "curl -sSN --fail --json BODY URL"),
        peers.call(
            Peer::Aichat,
            &["-m", "fake:m", &prompt],
            "aichat -m MODEL PROMPT",
        ),
        peers.call(Peer::Llm, &["-m", "m", &prompt], "llm -m MODEL PROMPT"),
    ];
    let mut rows = compare::rows(&machine, "short prompt", ROUNDS, (&ours, &others), times)?;

    let requests = requests_before_chat(&machine, &studio, &ours)?;
    let what = "short prompt: requests before the chat request";
    rows.push(Row::ours(what, vec![Figure::Count(requests)], &ours.shown));
    Ok(rows)
}

/// Returns the number of requests of one run before the chat request.
fn requests_before_chat(
    machine: &Machine,
    studio: &FakeStudio,
    call: &Call,
) -> Result<usize, Failure> {
    let earlier = studio.requests().len();
    machine.run(call)?;
    let requests = studio.requests();
    let mut requests = requests.iter().skip(earlier);
    let is_chat = |path: &str| path.ends_with("/chat") || path.ends_with("/completions");
    let position = requests.position(|request| is_chat(&request.path));
    Ok(position.ok_or("the run sent no chat request")?)
}
