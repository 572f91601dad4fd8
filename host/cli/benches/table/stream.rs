//! A long answer at the full speed of the server.

use crate::compare;
use crate::machine::{Call, Machine};
use crate::peers::{Peer, Peers, chat_body, configure, start_studio};
use crate::report::{Row, times_and_memory};
use crate::servers::studio::Answer;
use crate::timing::Failure;

/// Each program receives the answer this many times.
const ROUNDS: usize = 7;

/// The number of tokens of the answer, each of which is an event of the stream.
const TOKENS: usize = 20_000;

const PROMPT: &str = "Count from zero.";

pub(crate) fn rows(peers: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = Machine::new()?;
    let studio = start_studio(Answer::Tokens(TOKENS));
    let url = studio.url();
    configure(&machine, &url)?;
    let endpoint = format!("{url}/v1/chat/completions");
    let body = chat_body(PROMPT);
    let last = format!("t{}", TOKENS - 1);

    let plain = ["infer", PROMPT, "-m", "m", "--engine", &url];
    let processed = [&plain[..], &["--post", "trim"]].concat();
    let shown = "lmstrix-host infer PROMPT -m m --engine URL";
    let plain = Call::ours(&plain, shown).expecting(&last);
    let processed = Call::ours(&processed, &format!("{shown} --post trim")).expecting(&last);

    let curl = ["-sSN", "--fail", "--json", &body, &endpoint];
    let others = [
        peers.call(Peer::Curl, &curl, "curl -sSN --fail --json BODY URL"),
        peers.call(
            Peer::Aichat,
            &["-m", "fake:m", PROMPT],
            "aichat -m MODEL PROMPT",
        ),
    ]
    .map(|(peer, call)| (peer, call.map(|call| call.expecting(&last))));

    let what = "stream of 20,000 tokens";
    let calls = (&plain, &others[..]);
    let mut rows = compare::rows(&machine, what, ROUNDS, calls, times_and_memory)?;
    let what = "stream of 20,000 tokens through a processor";
    let calls = (&processed, &others[..]);
    rows.extend(compare::rows(
        &machine,
        what,
        ROUNDS,
        calls,
        times_and_memory,
    )?);
    Ok(rows)
}
