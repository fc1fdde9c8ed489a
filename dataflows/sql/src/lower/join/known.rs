//! What is known of a join's output: times, keys, whether rows are ever retracted.

use highwater_plan::{JoinInterval, JoinKind, JoinWindow, StateBound, TimeColumn, TimeKind, TimeSource};

use crate::lower::graph::{Known, Node};

/// What lets rows go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// Nothing.
    None,
    /// The end of their window.
    Window,
    /// The distance of times.
    Interval(&'a JoinInterval),
}

/// What is known of all columns that [`JoinKind::columns`] gives.
pub(super) fn joined(kind: JoinKind, sides: [&Node; 2], on: &[(usize, usize)], bound: Bound<'_>) -> Known {
    let [left, right] = sides.map(|side| &side.known);
    // A row leaves when its later half arrives, so both sides' watermarks bound its times.
    let all = TimeSource::merged(left.time.iter().chain(&right.time).flatten().flat_map(|time| &time.sources));
    // A column that is NULL where there is no match bounds nothing: such rows would be in no window.
    let bounded = |side: usize, known: &Known, pads: bool| -> Vec<Option<TimeColumn>> {
        // A row may wait for its match until the watermark has long passed its time.
        let delay = if let Bound::Interval(interval) = bound { interval.delay(side) } else { 0 };
        let sources: Vec<TimeSource> = all.iter().map(|source| source.delayed(delay)).collect();
        // Bounds of two windows in one row: that a start and an end are of one window is believed of the left side only.
        let plain = side == 1 && !matches!(bound, Bound::Window) && has_bounds(left);
        let bounded = |time: &TimeColumn| match time.kind {
            TimeKind::WindowStart { size } if plain => {
                TimeColumn { kind: TimeKind::Event, sources: sources.iter().map(|source| source.delayed(size)).collect() }
            }
            TimeKind::WindowEnd { .. } if plain => TimeColumn { kind: TimeKind::Event, sources: sources.clone() },
            kind => TimeColumn { kind, sources: sources.clone() },
        };
        known.time.iter().map(|time| time.as_ref().filter(|_| !pads).map(bounded)).collect()
    };
    let [pads_left, pads_right] = kind.pads();
    let mut time = bounded(0, left, pads_left);
    if kind.gives_pairs() {
        time.extend(bounded(1, right, pads_right));
    } else if kind == JoinKind::Mark {
        time.push(None);
    }
    // Of rows that are replaced the old one stays if it is taken back too late. Windows do not change after their end.
    let replaced = |interval: &JoinInterval| {
        let settles = |side: usize| [left, right][side].append_only || interval.kinds[side] != TimeKind::Event;
        !(settles(0) && settles(1))
    };
    let keys = match bound {
        Bound::Interval(interval) if replaced(interval) => Vec::new(),
        _ if kind.gives_pairs() => keys_of_pairs(kind, sides, on),
        _ => left.keys.clone(),
    };
    Known {
        // That a row has no match is taken back when one comes.
        append_only: left.append_only && right.append_only && kind.keeps() == [false, false],
        time,
        keys,
        state: match bound {
            Bound::Window => StateBound::Window,
            Bound::Interval(interval) if interval.is_bounded() => StateBound::Watermark,
            Bound::Interval(_) | Bound::None => StateBound::Unbounded,
        },
    }
}

fn has_bounds(known: &Known) -> bool {
    known.time.iter().flatten().any(|time| time.kind != TimeKind::Event)
}

fn keys_of_pairs(kind: JoinKind, sides: [&Node; 2], on: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let left_width = sides[0].schema.fields().len();
    let [left, right] = sides.map(|side| &side.known.keys);
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + left_width).collect::<Vec<usize>>();
    let unique =
        |keys: &[Vec<usize>], columns: &[usize]| keys.iter().any(|key| key.iter().all(|column| columns.contains(column)));
    let (left_on, right_on): (Vec<usize>, Vec<usize>) = on.iter().copied().unzip();
    let [pads_left, pads_right] = kind.pads();
    let mut keys: Vec<Vec<usize>> = Vec::new();
    // Padded rows all have the same NULLs for a key.
    if !pads_left && unique(right, &right_on) {
        keys.extend(left.iter().cloned());
    }
    if !pads_right && unique(left, &left_on) {
        keys.extend(right.iter().map(shifted));
    }
    if keys.is_empty()
        && let (Some(l), Some(r)) = (left.first(), right.first())
    {
        keys.extend(both_keys(kind, sides, on, l, r));
    }
    let variants: Vec<Vec<usize>> = keys
        .iter()
        .flat_map(|key| {
            // A padded column is NULL where the other side's has values: it does not stand for that one.
            let to_left = (!pads_left).then(|| swapped(key, on, left_width, true));
            let to_right = (!pads_right).then(|| swapped(key, on, left_width, false));
            [to_left, to_right]
        })
        .flatten()
        .collect();
    for variant in variants {
        if !keys.contains(&variant) {
            keys.push(variant);
        }
    }
    keys
}

/// A key of each side as a key of the pairs. A column that equals one of the other side's key adds nothing, unless the
/// other side is padded.
fn both_keys(kind: JoinKind, sides: [&Node; 2], on: &[(usize, usize)], left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let left_width = sides[0].schema.fields().len();
    let [pads_left, pads_right] = kind.pads();
    let shifted = |column: &usize| column + left_width;
    match (pads_left, pads_right) {
        (false, _) => {
            let equal = |column: &usize| on.iter().any(|(l_on, r_on)| r_on == column && left.contains(l_on));
            let rest = right.iter().filter(|column| !equal(column)).map(shifted);
            Some(left.iter().copied().chain(rest).collect())
        }
        (true, false) => {
            let equal = |column: &usize| on.iter().any(|(l_on, r_on)| l_on == column && right.contains(r_on));
            let rest = left.iter().copied().filter(|column| !equal(column));
            Some(rest.chain(right.iter().map(shifted)).collect())
        }
        (true, true) => {
            // A row of either side without a match could have nothing but NULLs for a key.
            let solid = |side: usize, key: &[usize]| key.iter().any(|column| !sides[side].schema.field(*column).is_nullable());
            let distinct = solid(0, left) || solid(1, right);
            distinct.then(|| left.iter().copied().chain(right.iter().map(shifted)).collect())
        }
    }
}

/// The same key by the other side's equal columns, for projections that keep only those.
fn swapped(key: &[usize], on: &[(usize, usize)], left_width: usize, to_left: bool) -> Vec<usize> {
    let mut swapped = Vec::with_capacity(key.len());
    for column in key {
        let pair = on.iter().find(|(l, r)| if to_left { r + left_width == *column } else { l == column });
        let column = match pair {
            Some((l, _)) if to_left => *l,
            Some((_, r)) => r + left_width,
            None => *column,
        };
        if !swapped.contains(&column) {
            swapped.push(column);
        }
    }
    swapped
}

/// The pair of keys that both hold the same windows' bound; ends before starts.
pub(super) fn join_window(on: &[(usize, usize)], left: &Known, right: &Known) -> Option<JoinWindow> {
    let pairs = || {
        on.iter().enumerate().filter_map(|(index, (l, r))| {
            let (l, r) = (left.time[*l].as_ref()?, right.time[*r].as_ref()?);
            let window = JoinWindow { on: index, kind: l.kind, left: l.sources.clone(), right: r.sources.clone() };
            (l.kind == r.kind && l.kind != TimeKind::Event).then_some(window)
        })
    };
    pairs().find(|window| matches!(window.kind, TimeKind::WindowEnd { .. })).or_else(|| pairs().next())
}
