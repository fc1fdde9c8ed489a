//! Which views of a job are put together by a key when they are restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plans::Plans;
use crate::kept_operators;

#[test]
fn views_with_a_key_say_so_and_others_do_not() {
    let mut plans = Plans::new();
    let table = plans.table("t", 3);
    let groups = plans.max(table, &[1], 2);
    let rows = plans.project(table, &[1, 2]);
    plans.view("groups", groups);
    plans.0.views[0].key = vec![0];
    plans.view("rows", rows);
    let kept = kept_operators(&Arc::new(plans.0)).expect("a thread can be started");
    let keys: BTreeMap<&str, Option<&[usize]>> =
        kept.iter().map(|kept| (kept.operator.name.as_str(), kept.unique_key.as_deref())).collect();
    assert_eq!((keys["view groups"], keys["view rows"]), (Some(&[0][..]), None), "{keys:?}");
    assert!(keys.iter().all(|(name, key)| *name == "view groups" || key.is_none()), "{keys:?}");
}
