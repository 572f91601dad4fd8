//! Settings from flags.

use lmstrix::client::parse_json_schema;
use lmstrix_inference::SettingsLayer;

use crate::args::SamplingArgs;
use crate::error::Failure;

/// Returns the settings of the command line.
///
/// # Errors
/// Returns an error if a schema cannot be read.
pub(crate) fn flag_layer(sampling: &SamplingArgs) -> Result<SettingsLayer, Failure> {
    let mut layer = sampling.settings.clone();
    if let Some(schema) = &layer.json_schema {
        layer.json_schema = Some(parse_json_schema(schema)?);
    }
    Ok(layer)
}
