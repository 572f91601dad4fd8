//! Time limits from flags, environment and config.

use std::time::Duration;

use crate::config::Config;
use crate::duration::TimeLimit;
use crate::engine::ConnectTimeouts;
use crate::environment::Environment;
use crate::error::Error;
use crate::job::Timeouts;

/// The time that a connection may take by default.
const CONNECT: Duration = Duration::from_secs(10);

/// Time limits as one run gives them. `None` leaves a limit to the environment, the
/// config and the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOptions {
    /// For a connection.
    pub connect: Option<TimeLimit>,
    /// For loading a model.
    pub load: Option<TimeLimit>,
    /// From the request to the first token.
    pub first_token: Option<TimeLimit>,
    /// Between two pieces of an answer.
    pub stream: Option<TimeLimit>,
    /// For the whole job.
    pub total: Option<TimeLimit>,
    /// Ends an answer that repeats the same piece this many times in a row; 0 is off.
    pub max_repeat: Option<usize>,
}

/// Returns the limits of a run, and those for connecting and loading.
///
/// # Errors
/// Returns an error if a variable is not a duration.
pub fn timeouts(
    options: &TimeoutOptions,
    env: &Environment,
    config: &Config,
) -> Result<(Timeouts, ConnectTimeouts), Error> {
    let default = Timeouts::default();
    let pick = |given: Option<TimeLimit>,
                variable: &str,
                written: Option<TimeLimit>,
                default: Option<Duration>| {
        if let Some(given) = given {
            return Ok(given.0);
        }
        match env.own_variables.get(variable) {
            Some(text) => text
                .parse()
                .map(|limit: TimeLimit| limit.0)
                .map_err(|cause| {
                    Error::usage(format!(
                        "LMSTRIX_HOST_{variable}: invalid value `{text}`: {cause}"
                    ))
                }),
            None => Ok(written.map_or(default, |limit| limit.0)),
        }
    };
    let written = config.timeouts;
    let TimeoutOptions {
        connect,
        load,
        first_token,
        stream,
        total,
        max_repeat,
    } = *options;
    let timeouts = Timeouts {
        load: pick(load, "LOAD_TIMEOUT", written.load, default.load)?,
        first_token: pick(
            first_token,
            "FIRST_TOKEN_TIMEOUT",
            written.first_token,
            default.first_token,
        )?,
        stream: pick(stream, "STREAM_TIMEOUT", written.stream, default.stream)?,
        total: pick(total, "TIMEOUT", written.total, default.total)?,
        max_repeat: max_repeat.unwrap_or(default.max_repeat),
    };
    let connect = ConnectTimeouts {
        connect: pick(connect, "CONNECT_TIMEOUT", written.connect, Some(CONNECT))?,
        load: timeouts.load,
    };
    Ok((timeouts, connect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_config() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let mut config = Config::default();
        config.timeouts.stream = Some(TimeLimit(None));
        config.timeouts.load = Some(TimeLimit(seconds(7)));
        let options = TimeoutOptions {
            load: Some(TimeLimit(seconds(300))),
            ..TimeoutOptions::default()
        };
        let variables = [("LOAD_TIMEOUT", "3"), ("TIMEOUT", "9")];
        let env = Environment {
            own_variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Environment::default()
        };
        let (timeouts, connect) = timeouts(&options, &env, &config).unwrap();
        assert_eq!(
            (
                timeouts.load,
                timeouts.stream,
                timeouts.total,
                timeouts.first_token,
                connect.connect
            ),
            (seconds(300), None, seconds(9), seconds(600), seconds(10))
        );
    }
}
