//! Requests that are answered with one JSON value.

use std::time::Duration;

use serde_json::Value;

use super::detected_server::Server;
use super::fault;
use super::http_client::{ClientError, Response};
use crate::engine::Error;

/// Time limit for a list. LM Studio scans its folders for it.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests `path` and parses the JSON response.
///
/// # Errors
/// Returns an error if the server cannot be reached or reports an error.
pub(super) async fn get_json(server: &Server, path: &str) -> Result<Value, Error> {
    let response = server.client.get(path, LIST_TIMEOUT).await;
    let response = response.map_err(|error| connection_error(server, &error))?;
    parse_response(server, path, &response)
}

/// Posts a JSON body and parses the JSON response.
///
/// # Errors
/// Returns an error if the server cannot be reached, or `Error::LoadFailed` if
/// it reports an error.
pub(super) async fn post_json(
    server: &Server,
    model: &str,
    path: &str,
    body: &Value,
) -> Result<Value, Error> {
    let connection_error = |error| connection_error(server, &error);
    let response = server
        .client
        .post(path, body)
        .await
        .map_err(connection_error)?;
    let response = server
        .client
        .read_body(response)
        .await
        .map_err(connection_error)?;
    parse_response(server, path, &response).map_err(|error| match error {
        Error::Server { engine, fault, .. } => Error::LoadFailed {
            engine,
            model: model.to_owned(),
            fault,
        },
        other => other,
    })
}

/// Converts an HTTP error, with the key removed from its text.
pub(super) fn connection_error(server: &Server, error: &ClientError) -> Error {
    match error {
        ClientError::ConnectTimeout(limit) => Error::ConnectTimeout {
            engine: server.display_name(),
            limit: *limit,
        },
        other => Error::Unreachable {
            engine: server.display_name(),
            reason: server.client.redact(&other.to_string()),
        },
    }
}

/// Parses the JSON of a response.
///
/// # Errors
/// Returns an error if the response is an error or not JSON.
fn parse_response(server: &Server, path: &str, response: &Response) -> Result<Value, Error> {
    let server_error = |fault: fault::ServerFault| match fault.kind {
        fault::FaultKind::Auth => Error::Unauthorised {
            engine: server.display_name(),
            had_key: server.client.has_key(),
            message: server.client.redact(&fault.message),
        },
        _ => Error::Server {
            engine: server.display_name(),
            model: String::new(),
            fault: Box::new(fault::ServerFault {
                message: server.client.redact(&fault.message),
                ..fault
            }),
        },
    };
    if !(200..300).contains(&response.status) {
        return Err(server_error(fault::from_response(
            response.status,
            None,
            &response.body,
        )));
    }
    let Some(value) = response.json() else {
        return Err(Error::NotAServer {
            url: server.client.base_url().to_owned(),
            response: format!("the response to `{path}` is not JSON"),
        });
    };
    match fault::find_in_json(&value) {
        Some(fault) => Err(server_error(fault)),
        None => Ok(value),
    }
}
