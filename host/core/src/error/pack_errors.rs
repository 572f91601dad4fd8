//! Errors of packs and of the resolution of prompts.

use lmstrix_sandbox::{ContractError, STANDARD_PACK, WrittenLines};

use super::definition::{Error, ErrorKind};
use super::suggestion::{did_you_mean, quoted_list};
use crate::error_chain::error_chain;
use crate::job;
use crate::suggest::similar_names;

pub(super) fn resolve_error(error: &job::ResolveError) -> Error {
    match error {
        job::ResolveError::Pack(error) => pack_error(error),
        job::ResolveError::Placement(error) => {
            Error::usage(error_chain(error)).optional_hint(error.hint())
        }
        job::ResolveError::UnknownProcessor { pack, similar, .. } => {
            let error = Error::usage(if pack == STANDARD_PACK {
                error.to_string().replace(" or the standard pack", "")
            } else {
                error.to_string()
            });
            did_you_mean(error, similar)
        }
        other => Error::usage(error_chain(other)),
    }
}

pub(super) fn pack_error(error: &lmstrix_sandbox::Error) -> Error {
    match error {
        lmstrix_sandbox::Error::Contract {
            pack,
            item,
            error,
            written,
        } => {
            let mut error = contract_error(pack, item, error);
            error.message += &WrittenLines(written).to_string();
            error
        }
        lmstrix_sandbox::Error::NotFound {
            name,
            searched,
            available,
        } => {
            let folders: Vec<String> = searched
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            let failure = Error::new(ErrorKind::Usage, error_chain(error))
                .hint(format!("searched folders: {}", folders.join(", ")));
            let available = available.iter().map(String::as_str);
            did_you_mean(failure, &similar_names(name, available))
        }
        lmstrix_sandbox::Error::InvalidName { .. }
        | lmstrix_sandbox::Error::Read { .. }
        | lmstrix_sandbox::Error::InvalidLockFile { .. }
        | lmstrix_sandbox::Error::InvalidPackFile { .. }
        | lmstrix_sandbox::Error::MissingInterface { .. } => {
            Error::new(ErrorKind::Usage, error_chain(error))
        }
        lmstrix_sandbox::Error::Refused {
            pack, path, rule, ..
        } => {
            let failure = Error::new(ErrorKind::Usage, error_chain(error));
            let folder = path.as_ref().and_then(|path| path.parent());
            match folder.map(|folder| folder.display().to_string()) {
                _ if *rule == "pins" => failure.hint(format!(
                    "to see the digest of the pack: lmstrix-host pack show {pack}"
                )),
                Some(folder) if !folder.is_empty() => failure.hint(format!(
                    "to compare the packs with packs.lock: \
                     lmstrix-host pack verify --pack-dir {folder}; to record them as they are: \
                     lmstrix-host pack lock --pack-dir {folder}"
                )),
                _ => failure,
            }
        }
        lmstrix_sandbox::Error::Load { .. }
        | lmstrix_sandbox::Error::Guest(_)
        | lmstrix_sandbox::Error::Sandbox(_) => Error::new(ErrorKind::Pack, error_chain(error)),
    }
}

fn contract_error(pack: &str, item: &str, error: &ContractError) -> Error {
    match error {
        ContractError::UnknownPrompt(similar) => {
            let failure = Error::usage(format!("pack `{pack}` has no prompt `{item}`"));
            did_you_mean(failure, similar).hint(format!(
                "to send `{item}` as text, use '{{{{text}}}}' --text '{item}'"
            ))
        }
        ContractError::UnknownProcessor(similar) => {
            let failure = Error::usage(format!("pack `{pack}` has no processor `{item}`"));
            did_you_mean(failure, similar)
        }
        ContractError::MissingParams(missing) => {
            let failure = Error::usage(format!(
                "prompt `{item}` is missing {}: {}",
                if missing.len() == 1 {
                    "a parameter"
                } else {
                    "parameters"
                },
                quoted_list(missing)
            ));
            missing.iter().fold(failure, |failure, name| {
                failure.hint(if name == "text" {
                    "set `text` with --text TEXT, --text-file FILE, or a pipe to stdin".to_owned()
                } else {
                    format!("set `{name}` with -p {name}=VALUE")
                })
            })
        }
        ContractError::InvalidParam { name, reason } => Error::usage(format!(
            "pack `{pack}`, `{item}`: invalid `{name}`: {reason}"
        )),
        ContractError::InvalidFile {
            file,
            line,
            column,
            message,
        } => {
            let place: String = [*line, *column]
                .iter()
                .map_while(|number| number.map(|number| format!(":{number}")))
                .collect();
            Error::usage(format!("pack `{pack}`: {file}{place}: {message}"))
        }
        ContractError::Rejected(reason) => Error::new(
            ErrorKind::Empty,
            format!("`{pack}/{item}` rejected the answer: {reason}"),
        ),
    }
}
