//! Measures several programs in turn.

use crate::launcher::Cost;
use crate::machine::{Call, Machine};
use crate::peers::Peer;
use crate::report::{Figure, Row};
use crate::timing::{Failure, median};

/// Measures lmstrix-host and the installed programs and returns their rows.
pub(crate) fn rows(
    machine: &Machine,
    what: &str,
    rounds: usize,
    calls: (&Call, &[(Peer, Option<Call>)]),
    figures: impl Fn(&Cost) -> Vec<Figure>,
) -> Result<Vec<Row>, Failure> {
    let (ours, peers) = calls;
    let mut all = vec![ours];
    all.extend(peers.iter().filter_map(|(_, call)| call.as_ref()));
    warm_up(machine, &all)?;
    let mut costs = in_turn(machine, rounds, &all)?.into_iter();
    let cost = costs.next().ok_or("nothing was measured")?;
    let our_figures = figures(&cost);
    let mut rows = Vec::new();
    for (peer, call) in peers {
        let cost = call.as_ref().and_then(|_| costs.next());
        rows.push(Row {
            what: what.to_owned(),
            ours: our_figures.clone(),
            peer: Some((peer.name(), cost.as_ref().map(&figures).unwrap_or_default())),
            commands: std::iter::once(ours)
                .chain(call)
                .map(|call| call.shown.clone())
                .collect(),
        });
    }
    Ok(rows)
}

/// Runs each call once, so that caches are filled.
pub(crate) fn warm_up(machine: &Machine, calls: &[&Call]) -> Result<(), Failure> {
    for call in calls {
        machine.run(call)?;
    }
    Ok(())
}

/// Runs the calls `rounds` times in turn. Returns the median costs in the order of the calls.
pub(crate) fn in_turn(
    machine: &Machine,
    rounds: usize,
    calls: &[&Call],
) -> Result<Vec<Cost>, Failure> {
    let mut costs = vec![Vec::with_capacity(rounds); calls.len()];
    for _ in 0..rounds {
        for (call, costs) in calls.iter().zip(&mut costs) {
            costs.push(machine.run(call)?);
        }
    }
    Ok(costs.iter().map(|costs| median_cost(costs)).collect())
}

/// Runs one call `rounds` times. Returns the median cost.
pub(crate) fn one(machine: &Machine, rounds: usize, call: &Call) -> Result<Cost, Failure> {
    let costs = in_turn(machine, rounds, &[call])?;
    Ok(*costs.first().ok_or("nothing was measured")?)
}

/// Returns the median, or `None` of no values.
pub(crate) fn median_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Returns the median of each value; `costs` is not empty.
fn median_cost(costs: &[Cost]) -> Cost {
    let times = |time: fn(&Cost) -> std::time::Duration| {
        let mut times: Vec<_> = costs.iter().map(time).collect();
        times.sort();
        median(&times)
    };
    let mut peaks: Vec<u64> = costs.iter().map(|cost| cost.peak_bytes).collect();
    peaks.sort_unstable();
    Cost {
        wall: times(|cost| cost.wall),
        cpu: times(|cost| cost.cpu),
        peak_bytes: peaks[peaks.len() / 2],
    }
}
