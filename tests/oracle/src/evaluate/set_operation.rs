//! Set operations: each row of the left side, as often as it stays.

use highwater_plan::{SetKind, SetOperation};

use crate::multiset::Multiset;

/// The content after each epoch.
pub(super) fn content(operation: SetOperation, inputs: [&Vec<Multiset>; 2]) -> Vec<Multiset> {
    inputs[0].iter().zip(inputs[1]).map(|(left, right)| result(operation, left, right)).collect()
}

fn result(operation: SetOperation, left: &Multiset, right: &Multiset) -> Multiset {
    let mut result = Multiset::default();
    for (row, copies) in left.iter() {
        let others = right.count(row);
        let stays = match (operation.kind, operation.all) {
            (SetKind::Intersect, true) => copies.min(others),
            (SetKind::Except, true) => copies - copies.min(others),
            (SetKind::Intersect, false) => i64::from(others != 0),
            (SetKind::Except, false) => i64::from(others == 0),
        };
        result.add(row.clone(), stays);
    }
    result
}
