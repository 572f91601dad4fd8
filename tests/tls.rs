//! Servers behind TLS and gateways: certificates and headers of the config.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::Machine;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/tls")
        .join(name)
}

/// An OpenAI-compatible server with a certificate of the test data. It runs until the tests
/// end.
struct TlsServer {
    port: u16,
    /// The heads of the requests.
    heads: Arc<Mutex<Vec<String>>>,
}

impl TlsServer {
    fn start(certificate: &str) -> Self {
        let chain =
            vec![CertificateDer::from_pem_file(data(&format!("{certificate}.pem"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(data(&format!("{certificate}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    // A client that does not trust the certificate ends the connection.
                    let stream = StreamOwned::new(connection, stream.unwrap());
                    answer(BufReader::new(stream), &seen).is_ok()
                });
            }
        });
        Self { port, heads }
    }
}

type Connection = BufReader<StreamOwned<ServerConnection, std::net::TcpStream>>;

/// Answers one request.
fn answer(mut connection: Connection, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let start = head.len();
        if connection.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let line = head[start..].trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length])?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/v1/models" => (200, r#"{"object":"list","data":[{"id":"m"}]}"#),
        "/v1/chat/completions" => (
            200,
            r#"{"choices":[{"index":0,"message":{"content":"Hello."},"finish_reason":"stop"}]}"#,
        ),
        _ => (404, "{}"),
    };
    let response = format!(
        "HTTP/1.1 {status} S\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    seen.lock().unwrap().push(head);
    let stream = connection.get_mut();
    stream.write_all(response.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn machine(server: &TlsServer, config: &str) -> Machine {
    let machine = Machine::new();
    let url = format!("https://localhost:{}", server.port);
    let config = format!("[defaults]\ndiscover = false\n[engines.x]\nurl = '{url}'\n{config}\n");
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    machine
}

const INFER: [&str; 5] = ["infer", "Say {{a}}", "-pa=b", "--engine", "x"];

#[test]
fn a_certificate_must_be_trusted() {
    let self_signed = TlsServer::start("self-signed");
    let signed = TlsServer::start("signed");
    let trust = |name: &str| format!("ca_file = '{}'", data(name).display());
    for (server, config, is_trusted) in [
        (&self_signed, String::new(), false),
        (&self_signed, trust("self-signed.pem"), true),
        (&self_signed, trust("ca.pem"), false),
        (&signed, String::new(), false),
        (&signed, trust("ca.pem"), true),
        (&signed, trust("signed.pem"), true),
        (&signed, "insecure = true".to_owned(), true),
    ] {
        let run = machine(server, &config).run(&INFER);
        if is_trusted {
            assert_eq!(run.ok(), "Hello.\n", "{config}");
        } else {
            let stderr = run.fails(4);
            assert!(stderr.contains("certificate"), "{config}: {stderr}");
            assert!(stderr.contains("ca_file"), "{config}: {stderr}");
        }
        let is_warned = run
            .stderr
            .contains("the certificate of the server is not checked");
        assert_eq!(is_warned, config == "insecure = true", "{run:?}");
    }
    let run = machine(&signed, &trust("signed.key")).run(&INFER);
    assert!(run.fails(2).contains("has no certificate"), "{run:?}");
}

#[test]
fn headers_are_sent_and_their_values_never_shown() {
    let server = TlsServer::start("signed");
    let machine = machine(
        &server,
        "insecure = true\nheaders = { X-Team = 'blue-7781', CF-Access = { env = 'ACCESS' } }",
    );
    let mut command = machine.command(&[&INFER[..], &["-vvv", "--show-request"]].concat());
    command.env("ACCESS", "secret-90210");
    let run = crate::support::finish(command.spawn().unwrap());
    assert_eq!(run.ok(), "Hello.\n");
    for value in ["blue-7781", "secret-90210"] {
        assert!(!run.stderr.contains(value), "{run:?}");
    }
    let heads = server.heads.lock().unwrap();
    for head in heads.iter() {
        let head = head.to_lowercase();
        assert!(head.contains("x-team: blue-7781") && head.contains("cf-access: secret-90210"));
    }
    drop(heads);
    let run = machine.run(&INFER);
    assert!(run.stderr.contains("ACCESS, which is not set"), "{run:?}");
}

#[test]
fn certificates_are_not_read_for_a_server_without_tls() {
    use crate::servers::studio::{FakeStudio, Setup};

    let machine = Machine::new();
    let studio = FakeStudio::start(Setup::default());
    let url = studio.url();
    let args = ["infer", "Say: {{text}}", "--text", "x", "--engine", &url];
    let mut command = machine.command(&args);
    // A client that reads the certificates of the system has none then, and does not start.
    let none = machine.work().join("none");
    command
        .env("SSL_CERT_FILE", &none)
        .env("SSL_CERT_DIR", &none);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
