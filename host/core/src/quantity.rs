//! Numbers of things in messages.

/// Returns a number with its noun: `1 job`, `2 jobs`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
