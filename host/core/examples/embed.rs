//! Embedding lmstrix-host in another program: streaming an answer with a
//! callback, and cancelling one after its second piece.
//!
//! ```sh
//! cargo run --package lmstrix --example embed -- embedded "The shop is closed on Mondays. It opens on Tuesday."
//! ```

use std::io::Write;
use std::ops::ControlFlow;

use lmstrix::{Client, Environment, ErrorKind, Output, Paths, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let engine = args.next().unwrap_or_else(|| "embedded".to_owned());
    let text = args
        .next()
        .unwrap_or_else(|| "The shop is closed on Mondays. It opens again on Tuesday.".to_owned());
    let folder = std::env::temp_dir().join("lmstrix-example");
    let client = Client::new(Environment::new([], Paths::below(folder)))?;
    let request = || Request::new("tldr").text(&text).engine(&engine);
    let mut stdout = std::io::stdout();

    // Stream the answer with a callback.
    let answer = client.run(request(), |output| {
        if let Output::Text(piece) = output {
            let written = stdout.write_all(piece.as_bytes());
            if written.and_then(|()| stdout.flush()).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    let bytes = answer.text.len();
    writeln!(stdout, "\n[{bytes} bytes, {:?}]", answer.finish)?;

    // Receive the events as a stream, and cancel after the second piece.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cancelled = runtime.block_on(async {
        let mut stream = client.start(request());
        let mut pieces = 0;
        while let Some(output) = stream.next().await {
            pieces += usize::from(matches!(output, Output::Text(_)));
            if pieces == 2 {
                stream.cancel();
                break;
            }
        }
        stream.finish().await
    });
    match cancelled {
        Ok(_) => writeln!(stdout, "[complete before it was cancelled]")?,
        Err(error) if error.kind == ErrorKind::Interrupted => writeln!(stdout, "[cancelled]")?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
