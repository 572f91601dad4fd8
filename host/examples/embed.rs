//! Embedding lmstrix-host in another program: streaming an answer with a
//! callback, and cancelling one after its second piece.
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

    // Stream the answer with a callback.
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
        Err(failure) => writeln!(stdout, "error: {}", failure.message)?,
    }

    // Receive the events as a stream, and cancel after the second piece.
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
        Err(failure) => writeln!(stdout, "error: {}", failure.message),
        Ok(_) => writeln!(stdout, "[complete before it was cancelled]"),
    }
}
