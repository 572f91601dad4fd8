//! The flags of the settings, made from the table of settings.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use lmstrix_inference::{Allowed, SETTINGS, Scalar, SettingInfo, SettingsLayer};

/// The flag for no stop sequences.
const NO_STOP: &str = "no_stop";
/// The setting that the flag clears.
const STOP: &str = "stop";

/// The settings that flags set.
#[derive(Clone, Debug, Default)]
pub(crate) struct SamplingArgs {
    /// The settings; `json_schema` is as typed, a schema or `@FILE`.
    pub settings: SettingsLayer,
}

impl Args for SamplingArgs {
    fn augment_args(command: Command) -> Command {
        let no_stop = Arg::new(NO_STOP)
            .long("no-stop")
            .action(ArgAction::SetTrue)
            .conflicts_with(STOP)
            .help("Use no stop sequences, not even those of the prompt");
        let command = command.next_help_heading("Sampling");
        SETTINGS.iter().fold(command, |command, setting| {
            let command = command.arg(flag(setting));
            if setting.name == STOP {
                command.arg(no_stop.clone())
            } else {
                command
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = SettingsLayer::default();
        for setting in SETTINGS {
            let values = matches.get_many::<Scalar>(setting.name);
            let Some(value) = values.and_then(|values| values.cloned().reduce(joined)) else {
                continue;
            };
            settings
                .set(setting.name, value)
                .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))?;
        }
        if matches.get_flag(NO_STOP) {
            settings.stop = Some(Vec::new());
        }
        Ok(Self { settings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static SettingInfo) -> Arg {
    let parse = |text: &str| {
        let mut layer = SettingsLayer::default();
        layer
            .parse(setting.name, text)
            .map_err(|error| format!("expected {}", error.expected))?;
        let value = layer.values().pop().map(|(_, value)| value);
        value.ok_or_else(String::new)
    };
    Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .aliases(setting.aliases)
        .value_name(setting.value_name)
        .help(help(setting))
        .allow_negative_numbers(true)
        // A stop sequence can be anything, and a limit can be -1.
        .allow_hyphen_values(setting.is_list || setting.value_name.contains("-1"))
        .action(if setting.is_list {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .value_parser(parse)
}

/// Returns the help text, followed by the default, or by the allowed values if the setting
/// has no default.
fn help(setting: &SettingInfo) -> String {
    let help = setting.help.trim();
    match (setting.default(), setting.allowed) {
        (Some(Scalar::Texts(_)), _) | (None, Allowed::Any) => help.to_owned(),
        (Some(default), _) => format!("{help} [default: {default}]"),
        (None, Allowed::Range(min, max)) => format!("{help} [{min} to {max}]"),
        (None, Allowed::OneOf(values)) => format!("{help} [{}]", values.join(", ")),
    }
}

/// Returns the values of a list in one; of other settings the last one counts.
fn joined(first: Scalar, second: Scalar) -> Scalar {
    match (first, second) {
        (Scalar::Texts(first), Scalar::Texts(second)) => Scalar::Texts([first, second].concat()),
        (_, second) => second,
    }
}
