//! A multiset in order that finds its n-th value, and takes a change, in the logarithm of its size.
//!
//! A treap in one vector: each node knows how many values stand in its subtree. A value taken back before it is there has a
//! negative multiplicity for the while and counts as absent.

use std::cmp::Ordering;

use crate::Diff;
use crate::hash::mix;

const NONE: u32 = u32::MAX;

/// An ordered multiset.
pub(super) struct Counted<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    root: u32,
    /// Nodes ever made: what priorities are drawn from.
    made: u64,
}

struct Node<K> {
    key: K,
    count: Diff,
    /// How many values are present in the subtree.
    weight: Diff,
    children: [u32; 2],
    priority: u32,
}

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Counted { nodes: Vec::new(), free: Vec::new(), root: NONE, made: 0 }
    }
}

impl<K: Ord + Clone + Default> Counted<K> {
    /// How many values there are, copies included.
    pub(super) fn len(&self) -> Diff {
        self.weight(self.root)
    }

    /// How many different values there are.
    pub(super) fn distinct(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Adds copies of a value, or takes them back.
    pub(super) fn add(&mut self, key: K, diff: Diff) {
        if diff != 0 {
            self.root = self.added(self.root, key, diff);
        }
    }

    /// Adds all values of another.
    pub(super) fn merge(&mut self, other: &Self) {
        let mut todo = vec![other.root];
        while let Some(at) = todo.pop() {
            if at != NONE {
                let node = &other.nodes[at as usize];
                self.add(node.key.clone(), node.count);
                todo.extend(node.children);
            }
        }
    }

    /// The value before which `rank` values stand; `None` if there are not more than that.
    pub(super) fn get(&self, mut rank: Diff) -> Option<&K> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            let before = self.weight(node.children[0]);
            if rank < before {
                at = node.children[0];
                continue;
            }
            rank -= before;
            let here = node.count.max(0);
            if rank < here {
                return Some(&node.key);
            }
            rank -= here;
            at = node.children[1];
        }
        None
    }

    fn weight(&self, at: u32) -> Diff {
        if at == NONE { 0 } else { self.nodes[at as usize].weight }
    }

    /// The root of the subtree at `at` after the change.
    fn added(&mut self, at: u32, key: K, diff: Diff) -> u32 {
        if at == NONE {
            return self.made(key, diff);
        }
        let node = &mut self.nodes[at as usize];
        let side = match key.cmp(&node.key) {
            Ordering::Equal => {
                node.count += diff;
                if node.count == 0 {
                    let [left, right] = node.children;
                    node.key = K::default();
                    self.free.push(at);
                    return self.joined(left, right);
                }
                self.weigh(at);
                return at;
            }
            Ordering::Less => 0,
            Ordering::Greater => 1,
        };
        let child = node.children[side];
        let child = self.added(child, key, diff);
        self.nodes[at as usize].children[side] = child;
        if child != NONE && self.nodes[child as usize].priority > self.nodes[at as usize].priority {
            // The child goes up, its inner subtree comes to us.
            let inner = std::mem::replace(&mut self.nodes[child as usize].children[1 - side], at);
            self.nodes[at as usize].children[side] = inner;
            self.weigh(at);
            self.weigh(child);
            return child;
        }
        self.weigh(at);
        at
    }

    fn made(&mut self, key: K, diff: Diff) -> u32 {
        self.made += 1;
        let priority = (mix(self.made, 0x9E37_79B9_7F4A_7C15) >> 32) as u32;
        let node = Node { key, count: diff, weight: diff.max(0), children: [NONE; 2], priority };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        }
    }

    /// Two subtrees as one; all of `left` stands before all of `right`.
    fn joined(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        let up = if self.nodes[left as usize].priority > self.nodes[right as usize].priority { left } else { right };
        if up == left {
            let inner = self.nodes[left as usize].children[1];
            self.nodes[left as usize].children[1] = self.joined(inner, right);
        } else {
            let inner = self.nodes[right as usize].children[0];
            self.nodes[right as usize].children[0] = self.joined(left, inner);
        }
        self.weigh(up);
        up
    }

    fn weigh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let weight = node.children.iter().map(|child| self.weight(*child)).sum::<Diff>() + node.count.max(0);
        self.nodes[at as usize].weight = weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_rank_is_found_while_values_come_and_go() {
        let mut counted = Counted::default();
        let mut plain: BTreeMap<u64, Diff> = BTreeMap::new();
        let mut word = 1u64;
        for step in 0..4_000u64 {
            word = mix(word, step);
            let key = (word >> 7) % 61;
            let diff = if step % 3 == 0 { -1 } else { ((word >> 20) % 3) as Diff - 1 };
            counted.add(key, diff);
            *plain.entry(key).or_default() += diff;
            plain.retain(|_, count| *count != 0);
            if step % 97 == 0 {
                let all: Vec<u64> =
                    plain.iter().flat_map(|(key, count)| std::iter::repeat_n(*key, (*count).max(0) as usize)).collect();
                let found: Vec<u64> = (0..counted.len()).map(|rank| *counted.get(rank).expect("there are more")).collect();
                assert_eq!(found, all);
                assert_eq!(counted.get(counted.len()), None);
                assert_eq!(counted.distinct(), plain.len());
            }
        }
        let mut merged = Counted::default();
        merged.merge(&counted);
        merged.merge(&counted);
        assert_eq!(merged.len(), counted.len() * 2);
    }

    #[test]
    fn ascending_values_do_not_make_it_deep() {
        let mut counted = Counted::default();
        (0..100_000u64).for_each(|key| counted.add(key, 1));
        let mut depth = vec![(counted.root, 1)];
        let mut deepest = 0;
        while let Some((at, level)) = depth.pop() {
            if at != NONE {
                deepest = deepest.max(level);
                depth.extend(counted.nodes[at as usize].children.map(|child| (child, level + 1)));
            }
        }
        assert!(deepest < 80, "{deepest}");
    }
}
