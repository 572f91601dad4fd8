//! The start of each program.

use crate::compare;
use crate::machine::{Call, Machine};
use crate::peers::{Peer, Peers};
use crate::report::{Row, times};
use crate::timing::Failure;

/// Each program is started this many times.
const ROUNDS: usize = 5;

pub(crate) fn rows(peers: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = Machine::new()?;
    let ours = Call::ours(&["--version"], "lmstrix-host --version");
    let others = [
        (Peer::Aichat, "aichat --version"),
        (Peer::Llm, "llm --version"),
        (Peer::Promptfoo, "promptfoo --version"),
    ]
    .map(|(peer, shown)| peers.call(peer, &["--version"], shown));
    compare::rows(
        &machine,
        "start: `--version`",
        ROUNDS,
        (&ours, &others),
        times,
    )
}
