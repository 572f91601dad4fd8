//! In which order models are shown, and run: by a column, or `smart`.

use std::cmp::Ordering;

use super::record::ModelRecord;

/// A model as lists see it.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// A server's address, or `embedded`.
    pub engine: &'a str,
    /// The model's name there.
    pub id: &'a str,
    /// What is known of it.
    pub model: &'a ModelRecord,
    /// Whether it fits into the memory of its machine, as far as one can see.
    pub fits: bool,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By name.
    Id,
    /// By bytes on disk.
    Size,
    /// By the context that it was made for.
    Context,
    /// By the context that was found to work.
    Tested,
    /// By tokens per second.
    Speed,
    /// By seconds until the first token.
    FirstToken,
    /// By architecture.
    Architecture,
    /// Loaded ones, then those that fit, then by the time of a standard job.
    Smart,
    /// The Python program's first formula.
    SmartV1,
    /// The Python program's second formula.
    SmartV2,
}

impl Sort {
    /// The names that `--sort` takes.
    pub const NAMES: [&'static str; 10] = [
        "id", "size", "context", "tested", "speed", "ttft", "arch", "smart", "smart-v1", "smart-v2",
    ];

    /// Reads a name, also one of the Python program's: `ctx` for tested, `dtx`
    /// for declared context, `tps`; one more `d` at the end reverses.
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
        plain(name).map(|it| (it, false)).or_else(|| {
            // Only its own short names had that form.
            let old = ["id", "dtx", "ctx", "size", "tps", "ttft", "arch", "smart"];
            let name = name.strip_suffix('d').filter(|it| old.contains(it))?;
            Some((plain(name)?, true))
        })
    }
}

/// The job that `smart` thinks of.
const STANDARD_PROMPT_TOKENS: f64 = 1000.0;
const STANDARD_ANSWER_TOKENS: f64 = 500.0;
/// What an ordinary machine reads of a model per second while it answers, for
/// the case that no model's speed is known.
const BYTES_PER_SECOND: f64 = 50e9;
/// The same for loading it.
const LOAD_BYTES_PER_SECOND: f64 = 1e9;
/// How much faster prompts are read than answers are written, where unknown.
const PREFILL_FACTOR: f64 = 20.0;

/// Sorts; what is unknown comes last, also reversed. Equal ones by name.
pub fn sort(rows: &mut [Row<'_>], by: Sort, reverse: bool) {
    let bandwidth = bandwidth(rows);
    rows.sort_by(|a, b| {
        let turned = |it: Ordering| if reverse { it.reverse() } else { it };
        let names = a.id.cmp(b.id).then_with(|| a.engine.cmp(b.engine));
        let order = match by {
            Sort::Id => return turned(names),
            Sort::Architecture => known(
                a.model.architecture.as_deref(),
                b.model.architecture.as_deref(),
                |a, b| turned(a.cmp(b)),
            ),
            Sort::Smart => {
                let class = |row: &Row<'_>| (row.model.loaded.is_empty(), !row.fits);
                let classes = class(a).cmp(&class(b));
                let time = |row: &Row<'_>| standard_job_s(row.model, bandwidth);
                let times = known(time(a), time(b), |a, b| turned(a.total_cmp(b)));
                // What does not fit stays behind, also reversed.
                classes.then(times)
            }
            _ => known(number(a.model, by), number(b.model, by), |a, b| {
                turned(a.total_cmp(b))
            }),
        };
        order.then(names)
    });
}

fn known<T>(a: Option<T>, b: Option<T>, order: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => order(&a, &b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[expect(clippy::cast_precision_loss, reason = "an order needs no more digits")]
fn number(model: &ModelRecord, by: Sort) -> Option<f64> {
    let size = model.size_bytes.map(|it| it as f64);
    let declared = model.declared_context.map(f64::from);
    let tested = model.tested.as_ref().map(|it| f64::from(it.context));
    let speed = model.speeds.decode.median();
    match by {
        Sort::Size => size,
        Sort::Context => declared,
        Sort::Tested => tested,
        Sort::Speed => speed,
        Sort::FirstToken => model.speeds.first_token_s.median(),
        Sort::SmartV1 => Some(size? + declared? * 100_000.0),
        Sort::SmartV2 => Some(
            speed.unwrap_or(0.0) * 2000.0
                + tested.unwrap_or(0.0)
                + declared?
                + size? / 1_048_576.0 * 500.0,
        ),
        Sort::Id | Sort::Architecture | Sort::Smart => None,
    }
}

/// Bytes of a model that this machine gets through per second, from those
/// whose speed is known: each token reads the whole model once.
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
fn bandwidth(rows: &[Row<'_>]) -> f64 {
    let mut seen: Vec<f64> = rows
        .iter()
        .filter_map(|it| Some(it.model.speeds.decode.median()? * it.model.size_bytes? as f64))
        .collect();
    seen.sort_by(f64::total_cmp);
    seen.get(seen.len() / 2)
        .copied()
        .unwrap_or(BYTES_PER_SECOND)
}

/// Seconds for 1,000 tokens of prompt and 500 of answer, loading included when
/// it is not loaded; where speeds are unknown, from the size.
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
fn standard_job_s(model: &ModelRecord, bandwidth: f64) -> Option<f64> {
    let size = model.size_bytes.map(|it| it as f64);
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
        .or(size.map(|it| it / LOAD_BYTES_PER_SECOND))
        .filter(|_| model.loaded.is_empty());
    Some(load.unwrap_or(0.0) + STANDARD_PROMPT_TOKENS / prefill + STANDARD_ANSWER_TOKENS / decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Tested;

    fn model(size: u64, context: u32, tested: Option<u32>, speed: Option<f64>) -> ModelRecord {
        let mut model = ModelRecord {
            size_bytes: (size > 0).then_some(size * 1_000_000_000),
            declared_context: Some(context),
            tested: tested.map(|context| Tested {
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
    fn every_order_puts_the_unknown_last() {
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
            let (by, reverse) = Sort::parse(name).unwrap();
            assert_eq!(reverse, reversed, "{name}");
            let mut rows: Vec<Row<'_>> = models
                .iter()
                .map(|(id, model, fits)| Row {
                    engine: "s",
                    id,
                    model,
                    fits: *fits,
                })
                .collect();
            sort(&mut rows, by, reverse);
            let order: Vec<&str> = rows.iter().map(|it| it.id).collect();
            assert_eq!(order.join(" "), expected, "{name}");
        }
        for wrong in ["", "d", "contextd", "what"] {
            assert_eq!(Sort::parse(wrong), None, "{wrong}");
        }
        for name in Sort::NAMES {
            assert!(Sort::parse(name).is_some(), "{name}");
        }
    }
}
