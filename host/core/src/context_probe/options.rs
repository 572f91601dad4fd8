//! The options of a context probe, and the range of context lengths that they allow.

use std::time::Duration;

use crate::registry::TestLevel;

/// The options of a context probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// The level that a context length must pass.
    pub level: TestLevel,
    /// Probe only this context length, in tokens.
    pub context: Option<u32>,
    /// The largest context length to probe, in tokens. Without it, the declared one.
    pub max_context: Option<u32>,
    /// Time limit of one probe, including the load.
    pub timeout: Option<Duration>,
    /// Delete earlier results of the model first.
    pub reset: bool,
    /// Report the plan without loading anything or changing the registry.
    pub dry_run: bool,
    /// Also probe context lengths that failed before or exceed the declared one.
    pub force: bool,
}

/// The range of context lengths to search, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContextRange {
    /// The largest context length that this search probes.
    pub(super) max_context: u32,
    /// The largest context length that any search could probe.
    pub(super) upper_limit: u32,
}

/// The reason why there is no range to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeError {
    /// Neither the engine nor the options set an upper limit.
    NoLimit,
    /// `ProbeOptions::context` exceeds the declared context length.
    TooLarge { requested: u32, declared: u32 },
}

/// Returns the range to search for a model with a declared context length.
pub(super) fn context_range(
    declared: Option<u32>,
    options: &ProbeOptions,
) -> Result<ContextRange, RangeError> {
    if let (Some(requested), Some(declared)) = (options.context, declared)
        && requested > declared
        && !options.force
    {
        return Err(RangeError::TooLarge {
            requested,
            declared,
        });
    }
    let max_context = match (declared, options.context.or(options.max_context)) {
        (Some(declared), Some(requested)) if !options.force => requested.min(declared),
        (_, Some(requested)) => requested,
        (Some(declared), None) => declared,
        (None, None) => return Err(RangeError::NoLimit),
    };
    Ok(ContextRange {
        max_context: max_context.max(1),
        upper_limit: declared.unwrap_or(u32::MAX).max(max_context),
    })
}

#[cfg(test)]
impl ProbeOptions {
    /// Returns options for a search at a level, without limits.
    pub(super) fn at(level: TestLevel) -> Self {
        Self {
            level,
            context: None,
            max_context: None,
            timeout: None,
            reset: false,
            dry_run: false,
            force: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_ends_at_the_declared_context_unless_forced() {
        let range = |max_context: u32, upper_limit: u32| {
            Ok(ContextRange {
                max_context,
                upper_limit,
            })
        };
        let too_large = Err(RangeError::TooLarge {
            requested: 9000,
            declared: 8000,
        });
        for (declared, context, max_context, force, expected) in [
            (Some(8000), None, None, false, range(8000, 8000)),
            (Some(8000), None, Some(500), false, range(500, 8000)),
            (Some(8000), None, Some(9000), false, range(8000, 8000)),
            (Some(8000), None, Some(9000), true, range(9000, 9000)),
            (Some(8000), Some(500), Some(9000), true, range(500, 8000)),
            (Some(8000), Some(9000), None, false, too_large),
            (Some(8000), Some(9000), None, true, range(9000, 9000)),
            (Some(0), None, None, false, range(1, 0)),
            (None, None, Some(500), false, range(500, u32::MAX)),
            (None, None, None, true, Err(RangeError::NoLimit)),
        ] {
            let options = ProbeOptions {
                context,
                max_context,
                force,
                ..ProbeOptions::at(TestLevel::Loads)
            };
            assert_eq!(
                context_range(declared, &options),
                expected,
                "{declared:?} {options:?}"
            );
        }
    }
}
