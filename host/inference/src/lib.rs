//! The data types of one inference: the prompt, the settings with their origins, and the
//! events of an engine.
//!
//! Engines, packs, sinks and reports share these types. They do not depend on packs,
//! servers, files or the command line.

mod event;
mod prompt;
mod setting_value;
mod settings;
mod settings_table;

pub use event::{Event, FinishReason, SettingSupport, Usage};
pub use prompt::{Message, Prompt, Role};
pub use setting_value::{ContextSize, MaxTokens, Scalar, SettingValue};
pub use settings::{
    InvalidSetting, Origin, REPEAT_LAST_TOKENS, SETTINGS, Settings, SettingsLayer, WithOrigin,
};
pub use settings_table::{Allowed, REASONING_LEVELS, SettingInfo};
