//! Another program that runs prompts: pieces as they come, and an answer that
//! is cancelled when there is enough of it.
//!
//! ```sh
//! cargo run --example embed -- embedded "The shop is closed on Mondays. It opens on Tuesday."
//! ```

use std::io::Write;
use std::ops::ControlFlow;

use lmstrix_host::environment::Env;
use lmstrix_host::error::Exit;
use lmstrix_host::{Output, Request};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let engine = args.next().unwrap_or_else(|| "embedded".to_owned());
    let text = args
        .next()
        .unwrap_or_else(|| "The shop is closed on Mondays. It opens again on Tuesday.".to_owned());
    let env = Env::read();
    let mut stdout = std::io::stdout();

    // A callback for each piece.
    let request = || Request::new("tldr").text(&text).engine(&engine);
    let answer = request().run(&env, |output| {
        if let Output::Text(piece) = output {
            let written = stdout.write_all(piece.as_bytes());
            if written.and_then(|()| stdout.flush()).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    match answer {
        Ok(answer) => writeln!(
            stdout,
            "\n[{} bytes, {:?}]",
            answer.text.len(),
            answer.finish
        )?,
        Err(failure) => writeln!(stdout, "no answer: {}", failure.message)?,
    }

    // The same, cancelled at its second piece, and as a stream of events.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cancelled = runtime.block_on(async {
        let mut answering = request().start(&env);
        let mut pieces = 0;
        while let Some(output) = answering.next().await {
            pieces += usize::from(matches!(output, Output::Text(_)));
            if pieces == 2 {
                answering.cancel();
                break;
            }
        }
        answering.finish().await
    });
    match cancelled {
        Err(failure) if failure.exit == Exit::Interrupted => writeln!(stdout, "[cancelled]"),
        Err(failure) => writeln!(stdout, "no answer: {}", failure.message),
        Ok(_) => writeln!(stdout, "[was faster than the cancel]"),
    }
}
