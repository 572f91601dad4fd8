//! The order in which models are listed and run: by a column, or `smart`.

use std::cmp::Ordering;

use super::record::ModelRecord;
use crate::quantity::median;

/// A model in a list to be sorted.
#[derive(Clone, Debug)]
pub struct SortRow<'a> {
    /// A server's address, or `embedded`.
    pub engine: &'a str,
    /// The model's name on this engine.
    pub id: &'a str,
    /// The model's record.
    pub model: &'a ModelRecord,
    /// False if the model does not fit into the memory of its machine. True if unknown.
    pub fits: bool,
}

/// The sort key of a list of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// By name.
    Id,
    /// By size on disk.
    Size,
    /// By declared context.
    Context,
    /// By tested context.
    Tested,
    /// By tokens per second.
    Speed,
    /// By seconds until the first token.
    FirstToken,
    /// By architecture.
    Architecture,
    /// Loaded models first, then those that fit into memory, then by the estimated
    /// time of a standard job.
    Smart,
    /// The first formula of lmstrix.
    SmartV1,
    /// The second formula of lmstrix.
    SmartV2,
}

impl SortKey {
    /// The values of `--sort`.
    pub const NAMES: [&'static str; 10] = [
        "id", "size", "context", "tested", "speed", "ttft", "arch", "smart", "smart-v1", "smart-v2",
    ];

    /// Parses a name, and returns whether the order is reversed. Also accepts the names
    /// of lmstrix: `ctx` for tested context, `dtx` for declared context and `tps` for
    /// speed; there, a `d` at the end reverses the order.
    #[must_use]
    pub fn parse(name: &str) -> Option<(Self, bool)> {
        let plain = |name: &str| {
            Some(match name {
                "id" => Self::Id,
                "size" => Self::Size,
                "context" | "dtx" => Self::Context,
                "tested" | "ctx" => Self::Tested,
                "speed" | "tps" => Self::Speed,
                "ttft" => Self::FirstToken,
                "arch" => Self::Architecture,
                "smart" => Self::Smart,
                "smart-v1" => Self::SmartV1,
                "smart-v2" => Self::SmartV2,
                _ => return None,
            })
        };
        plain(name).map(|key| (key, false)).or_else(|| {
            // Only the names of lmstrix have a reversed form.
            let lmstrix_names = ["id", "dtx", "ctx", "size", "tps", "ttft", "arch", "smart"];
            let name = name
                .strip_suffix('d')
                .filter(|name| lmstrix_names.contains(name))?;
            Some((plain(name)?, true))
        })
    }
}

/// The tokens of the standard job's prompt and answer.
const STANDARD_PROMPT_TOKENS: f64 = 1000.0;
const STANDARD_ANSWER_TOKENS: f64 = 500.0;
/// The memory bandwidth of a typical machine, in bytes per second, used if no model's
/// speed is known.
const BYTES_PER_SECOND: f64 = 50e9;
/// The speed of loading a model, in bytes per second, if unknown.
const LOAD_BYTES_PER_SECOND: f64 = 1e9;
/// The ratio of prompt speed to answer speed, if unknown.
const PREFILL_FACTOR: f64 = 20.0;

/// Sorts models. Unknown values come last, also if reversed; equal values are sorted by
/// name.
pub fn sort_models(rows: &mut [SortRow<'_>], by: SortKey, reverse: bool) {
    let bandwidth = estimate_bandwidth(rows);
    rows.sort_by(|a, b| {
        let directed = |ordering: Ordering| {
            if reverse {
                ordering.reverse()
            } else {
                ordering
            }
        };
        let names = a.id.cmp(b.id).then_with(|| a.engine.cmp(b.engine));
        let order = match by {
            SortKey::Id => return directed(names),
            SortKey::Architecture => compare_known(
                a.model.architecture.as_deref(),
                b.model.architecture.as_deref(),
                |a, b| directed(a.cmp(b)),
            ),
            SortKey::Smart => {
                let class = |row: &SortRow<'_>| (row.model.loaded.is_empty(), !row.fits);
                let classes = class(a).cmp(&class(b));
                let time = |row: &SortRow<'_>| estimate_standard_job_s(row.model, bandwidth);
                let times = compare_known(time(a), time(b), |a, b| directed(a.total_cmp(b)));
                // Models that do not fit stay last, also if reversed.
                classes.then(times)
            }
            _ => compare_known(sort_value(a.model, by), sort_value(b.model, by), |a, b| {
                directed(a.total_cmp(b))
            }),
        };
        order.then(names)
    });
}

fn compare_known<T>(a: Option<T>, b: Option<T>, order: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => order(&a, &b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Returns the numeric value of a sort key, if known.
#[expect(clippy::cast_precision_loss, reason = "sorting needs no more digits")]
fn sort_value(model: &ModelRecord, by: SortKey) -> Option<f64> {
    let size = model.size_bytes.map(|bytes| bytes as f64);
    let declared = model.declared_context.map(f64::from);
    let tested = model
        .tested
        .as_ref()
        .map(|tested| f64::from(tested.context));
    let speed = model.speeds.decode.median();
    match by {
        SortKey::Size => size,
        SortKey::Context => declared,
        SortKey::Tested => tested,
        SortKey::Speed => speed,
        SortKey::FirstToken => model.speeds.first_token_s.median(),
        SortKey::SmartV1 => Some(size? + declared? * 100_000.0),
        SortKey::SmartV2 => Some(
            speed.unwrap_or(0.0) * 2000.0
                + tested.unwrap_or(0.0)
                + declared?
                + size? / 1_048_576.0 * 500.0,
        ),
        SortKey::Id | SortKey::Architecture | SortKey::Smart => None,
    }
}

/// Estimates the memory bandwidth of this machine, in bytes per second, as the median
/// over the models with a known speed. Each token reads the whole model once.
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
fn estimate_bandwidth(rows: &[SortRow<'_>]) -> f64 {
    let measured: Vec<f64> = rows
        .iter()
        .filter_map(|row| Some(row.model.speeds.decode.median()? * row.model.size_bytes? as f64))
        .collect();
    median(&measured).unwrap_or(BYTES_PER_SECOND)
}

/// Estimates the seconds for a prompt of 1,000 tokens and an answer of 500, with the
/// load time if the model is not loaded. Unknown speeds are estimated from the size.
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
fn estimate_standard_job_s(model: &ModelRecord, bandwidth: f64) -> Option<f64> {
    let size = model.size_bytes.map(|bytes| bytes as f64);
    let decode = model
        .speeds
        .decode
        .median()
        .or_else(|| Some(bandwidth / size?))?;
    let prefill = model
        .speeds
        .prefill
        .median()
        .unwrap_or(decode * PREFILL_FACTOR);
    let load = model
        .speeds
        .load_s
        .median()
        .or(size.map(|bytes| bytes / LOAD_BYTES_PER_SECOND))
        .filter(|_| model.loaded.is_empty());
    Some(load.unwrap_or(0.0) + STANDARD_PROMPT_TOKENS / prefill + STANDARD_ANSWER_TOKENS / decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TestedContext;

    fn model(size: u64, context: u32, tested: Option<u32>, speed: Option<f64>) -> ModelRecord {
        let mut model = ModelRecord {
            size_bytes: (size > 0).then_some(size * 1_000_000_000),
            declared_context: Some(context),
            tested: tested.map(|context| TestedContext {
                context,
                level: None,
                at: None,
                complete: true,
            }),
            ..ModelRecord::default()
        };
        if let Some(speed) = speed {
            model.speeds.decode.add(speed);
        }
        model
    }

    #[test]
    fn unknown_values_are_last_in_every_order() {
        let mut loaded = model(40, 4096, None, Some(2.0));
        loaded.loaded.push(Some(4096));
        let models = [
            ("big", model(30, 8192, None, None), false),
            ("fast", model(4, 131_072, Some(8000), Some(50.0)), true),
            ("loaded", loaded, true),
            ("slow", model(8, 32_768, Some(30_000), Some(5.0)), true),
            ("small", model(1, 2048, None, None), true),
            ("what", model(0, 4096, None, None), true),
        ];
        for (name, reversed, expected) in [
            ("id", false, "big fast loaded slow small what"),
            ("idd", true, "what small slow loaded fast big"),
            ("size", false, "small fast slow big loaded what"),
            ("sized", true, "loaded big slow fast small what"),
            ("tested", false, "fast slow big loaded small what"),
            ("ctxd", true, "slow fast big loaded small what"),
            ("dtx", false, "small loaded what big slow fast"),
            ("tps", false, "loaded slow fast big small what"),
            ("smart", false, "loaded small fast slow what big"),
            ("smart-v1", false, "small slow fast big loaded what"),
        ] {
            let (by, reverse) = SortKey::parse(name).unwrap();
            assert_eq!(reverse, reversed, "{name}");
            let mut rows: Vec<SortRow<'_>> = models
                .iter()
                .map(|(id, model, fits)| SortRow {
                    engine: "s",
                    id,
                    model,
                    fits: *fits,
                })
                .collect();
            sort_models(&mut rows, by, reverse);
            let order: Vec<&str> = rows.iter().map(|row| row.id).collect();
            assert_eq!(order.join(" "), expected, "{name}");
        }
        for wrong in ["", "d", "contextd", "what"] {
            assert_eq!(SortKey::parse(wrong), None, "{wrong}");
        }
        for name in SortKey::NAMES {
            assert!(SortKey::parse(name).is_some(), "{name}");
        }
    }
}
