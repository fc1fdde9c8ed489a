//! A sorted sequence of row numbers that is searched, and changed at any position.
//!
//! Small sequences are one vector. Larger ones are leaves of at most [`LEAF`] numbers: a change moves one leaf, a search
//! halves the leaves and then one of them, and a position is found by adding up leaves, of which there are few.

use std::cmp::Ordering;

/// Numbers per leaf.
const LEAF: usize = 512;

/// Row numbers in order.
#[derive(Debug, Default)]
pub(crate) struct List {
    leaves: Leaves,
    len: usize,
}

#[derive(Debug)]
enum Leaves {
    One(Vec<u32>),
    /// No leaf is empty.
    Many(Vec<Vec<u32>>),
}

impl Default for Leaves {
    fn default() -> Self {
        Leaves::One(Vec::new())
    }
}

impl List {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.leaves {
            Leaves::One(leaf) => leaf.capacity() * size_of::<u32>(),
            Leaves::Many(leaves) => leaves.iter().map(|leaf| leaf.capacity() * size_of::<u32>() + size_of::<Vec<u32>>()).sum(),
        }
    }

    /// The number at a position.
    pub(crate) fn get(&self, position: usize) -> u32 {
        match &self.leaves {
            Leaves::One(leaf) => leaf[position],
            Leaves::Many(leaves) => {
                let (leaf, within) = place(leaves, position);
                leaves[leaf][within]
            }
        }
    }

    /// The first position whose number `before` does not hold for; it must hold for a prefix.
    pub(crate) fn partition_point(&self, mut before: impl FnMut(u32) -> bool) -> usize {
        match &self.leaves {
            Leaves::One(leaf) => leaf.partition_point(|number| before(*number)),
            Leaves::Many(leaves) => {
                let leaf = leaves.partition_point(|leaf| before(leaf[0])).saturating_sub(1);
                let start: usize = leaves[..leaf].iter().map(Vec::len).sum();
                start + leaves[leaf].partition_point(|number| before(*number))
            }
        }
    }

    /// The first position that is equal, or where it would stand: `compare` says how a number stands to what is sought.
    pub(crate) fn search(&self, mut compare: impl FnMut(u32) -> Ordering) -> Result<usize, usize> {
        let position = self.partition_point(|number| compare(number) == Ordering::Less);
        match position < self.len && compare(self.get(position)) == Ordering::Equal {
            true => Ok(position),
            false => Err(position),
        }
    }

    /// Puts a number before a position.
    pub(crate) fn insert(&mut self, position: usize, number: u32) {
        self.len += 1;
        match &mut self.leaves {
            Leaves::One(leaf) => {
                leaf.insert(position, number);
                if leaf.len() > LEAF {
                    let tail = leaf.split_off(LEAF / 2);
                    self.leaves = Leaves::Many(vec![std::mem::take(leaf), tail]);
                }
            }
            Leaves::Many(leaves) => {
                // At the border of two leaves the number goes to the end of the first.
                let (at, within) = match position {
                    0 => (0, 0),
                    _ => {
                        let (leaf, within) = place(leaves, position - 1);
                        (leaf, within + 1)
                    }
                };
                leaves[at].insert(within, number);
                if leaves[at].len() > LEAF {
                    // What is appended leaves full leaves behind it.
                    let appended = within + 1 == leaves[at].len() && at + 1 == leaves.len();
                    let tail = leaves[at].split_off(if appended { LEAF } else { LEAF / 2 });
                    leaves.insert(at + 1, tail);
                }
            }
        }
    }

    /// Takes out the number at a position.
    pub(crate) fn remove(&mut self, position: usize) -> u32 {
        self.len -= 1;
        let number = match &mut self.leaves {
            Leaves::One(leaf) => leaf.remove(position),
            Leaves::Many(leaves) => {
                let (at, within) = place(leaves, position);
                let number = leaves[at].remove(within);
                if leaves[at].is_empty() {
                    leaves.remove(at);
                }
                number
            }
        };
        self.settle();
        number
    }

    /// Takes out the first `count` numbers.
    pub(crate) fn drain_front(&mut self, count: usize) -> Vec<u32> {
        self.len -= count;
        let drained = match &mut self.leaves {
            Leaves::One(leaf) => leaf.drain(..count).collect(),
            Leaves::Many(leaves) => {
                let mut drained = Vec::with_capacity(count);
                let mut whole = 0;
                while whole < leaves.len() && drained.len() + leaves[whole].len() <= count {
                    drained.append(&mut leaves[whole]);
                    whole += 1;
                }
                leaves.drain(..whole);
                if let Some(first) = leaves.first_mut() {
                    drained.extend(first.drain(..count - drained.len()));
                }
                drained
            }
        };
        self.settle();
        drained
    }

    /// Takes out all numbers from a position on.
    pub(crate) fn truncate(&mut self, length: usize) -> Vec<u32> {
        let mut removed = Vec::with_capacity(self.len - length);
        while self.len > length {
            removed.push(self.remove(self.len - 1));
        }
        removed
    }

    /// The numbers from a position on.
    pub(crate) fn iter_from(&self, position: usize) -> impl Iterator<Item = u32> {
        let (leaves, leaf, within): (&[Vec<u32>], usize, usize) = match &self.leaves {
            Leaves::One(leaf) => (std::slice::from_ref(leaf), 0, position.min(leaf.len())),
            Leaves::Many(leaves) if position < self.len => {
                let (leaf, within) = place(leaves, position);
                (leaves, leaf, within)
            }
            Leaves::Many(leaves) => (leaves, leaves.len() - 1, leaves.last().map_or(0, Vec::len)),
        };
        leaves[leaf][within..].iter().chain(leaves[leaf + 1..].iter().flatten()).copied()
    }

    /// A sequence that became short is one vector again.
    fn settle(&mut self) {
        if let Leaves::Many(leaves) = &mut self.leaves
            && self.len <= LEAF / 4
        {
            self.leaves = Leaves::One(leaves.concat());
        }
    }
}

/// The leaf of a position, and the position in it.
fn place(leaves: &[Vec<u32>], position: usize) -> (usize, usize) {
    let mut rest = position;
    for (index, leaf) in leaves.iter().enumerate() {
        if rest < leaf.len() {
            return (index, rest);
        }
        rest -= leaf.len();
    }
    unreachable!("position {position} is in the list")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list does what a sorted vector does, through growing and shrinking.
    #[test]
    fn a_list_is_a_sorted_vector() {
        let (mut list, mut vector) = (List::default(), Vec::new());
        let mut seed = 7u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for step in 0..20_000 {
            let grows = (step / 5_000) % 2 == 0;
            if vector.is_empty() || random(10) < if grows { 8 } else { 2 } {
                let value = random(3_000) as u32;
                let position = list.partition_point(|number| number < value);
                assert_eq!(position, vector.partition_point(|number| *number < value));
                assert_eq!(list.search(|number| number.cmp(&value)).is_ok(), vector.contains(&value));
                list.insert(position, value);
                vector.insert(position, value);
            } else {
                let position = random(vector.len());
                assert_eq!(list.remove(position), vector.remove(position));
            }
            assert_eq!(list.len(), vector.len());
            if step % 500 == 0 {
                let from = random(vector.len() + 1);
                assert!(list.iter_from(from).eq(vector[from..].iter().copied()));
                assert!(vector.is_empty() || list.get(vector.len() / 2) == vector[vector.len() / 2]);
                let front = random(vector.len() / 8 + 1);
                assert_eq!(list.drain_front(front), vector.drain(..front).collect::<Vec<_>>());
                let length = vector.len() - random(vector.len() / 8 + 1);
                list.truncate(length);
                vector.truncate(length);
            }
        }
    }
}
