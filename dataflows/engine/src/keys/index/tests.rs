//! Keys of many distributions, beside a plain map.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// An index with its keys, and what it must come to.
struct Checked {
    index: Index<1>,
    keys: Stored<1>,
    known: HashMap<(u64, u8), u32>,
    free: Vec<u32>,
}

impl Checked {
    fn new() -> Self {
        Checked { index: Index::new(), keys: Stored::new(), known: HashMap::new(), free: Vec::new() }
    }

    fn insert(&mut self, key: Word<1>) {
        let Checked { index, keys, known, free } = self;
        let bound = keys.len() as u32;
        let mut new = None;
        let number = index.number(key, keys, || *new.insert(free.pop().unwrap_or(bound)));
        match known.get(&(key.words[0], key.nulls)) {
            Some(before) => assert_eq!((new, number), (None, *before), "{}", key.words[0]),
            None => {
                assert_eq!(new, Some(number), "{}", key.words[0]);
                keys.set(number, key);
                known.insert((key.words[0], key.nulls), number);
            }
        }
    }

    fn remove(&mut self, key: Word<1>) {
        if let Some(number) = self.known.remove(&(key.words[0], key.nulls)) {
            self.index.remove(&key, number);
            self.free.push(number);
        }
    }

    fn check(&self) {
        for ((word, nulls), number) in &self.known {
            assert_eq!(self.index.find(&Word { words: [*word], nulls: *nulls }, &self.keys), *number);
        }
        assert_eq!(self.index.near_keys + self.index.far.len(), self.known.len());
        assert_eq!(self.index.near_keys, self.index.near.iter().filter(|number| **number != ABSENT).count());
    }
}

fn key(word: u64) -> Word<1> {
    Word { words: [word], nulls: 0 }
}

#[test]
fn it_has_what_a_map_has() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut checked = Checked::new();
        let mut next = [0, 1 << 40, u64::MAX - 2_000, i64::MIN as u64][random.gen_range(0..4)];
        for _ in 0..random.gen_range(1..12) {
            // A stretch of one kind; the next one goes on from the same place, or not.
            let (kind, count) = (random.gen_range(0..6), random.gen_range(1..20_000));
            if random.gen_bool(0.3) {
                next = random.r#gen();
            }
            for _ in 0..count {
                let word = match kind {
                    0 => next,
                    1 => next.wrapping_sub(2 * count).wrapping_add(random.gen_range(0..count)),
                    2 => random.r#gen(),
                    3 => next.wrapping_mul(1_000),
                    4 => next.wrapping_neg(),
                    _ => next & !1,
                };
                next = next.wrapping_add(1);
                checked.insert(key(word));
                if random.gen_bool(0.02) {
                    checked.insert(Word { words: [0], nulls: 1 });
                }
                if kind == 1 || random.gen_bool(0.1) {
                    checked.remove(key(word.wrapping_sub(random.gen_range(0..200))));
                }
            }
            checked.check();
        }
        let all: Vec<(u64, u8)> = checked.known.keys().copied().collect();
        all.into_iter().for_each(|(word, nulls)| checked.remove(Word { words: [word], nulls }));
        checked.check();
        assert_eq!(checked.index.find(&key(7), &checked.keys), ABSENT);
    }
}

/// The index of these words, in their order.
fn index_of(words: impl Iterator<Item = u64>) -> Index<1> {
    let mut checked = Checked::new();
    words.for_each(|word| checked.insert(key(word)));
    checked.check();
    checked.index
}

#[test]
fn ids_are_near_and_others_cost_no_more_for_it() {
    const COUNT: u64 = 100_000;
    let near = |index: &Index<1>| index.near_keys as f64 / (index.near_keys + index.far.len()) as f64;
    let up = index_of(1_000_000..1_000_000 + COUNT);
    assert_eq!((near(&up), up.far.capacity()), (1.0, 0));
    let few = index_of(0..FAR as u64 / 2);
    assert_eq!((few.near_keys, few.near.capacity()), (0, 0), "few are found as fast by hash");
    assert!(up.bytes() <= 12 * COUNT as usize, "{}", up.bytes());
    let down = index_of((0..COUNT).map(|id| (-(id as i64)) as u64));
    assert!(near(&down) > 0.99, "{}", near(&down));
    // One of two workers has about half of them, in no order.
    let half = index_of((0..2 * COUNT).map(|id| id * 7_919 % (2 * COUNT)).filter(|id| (id * 0x9e37_79b9) >> 7 & 1 == 0));
    assert!(near(&half) > 0.9, "{}", near(&half));
    // The first key was another's.
    let apart = index_of(std::iter::once(3).chain(1 << 50..(1 << 50) + COUNT));
    assert!(near(&apart) > 0.9, "{}", near(&apart));
    let random = index_of((0..COUNT).map(|id| id.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    assert!(near(&random) < 0.01 && random.near.is_empty(), "{} {}", near(&random), random.near.len());
    let strides = index_of((0..COUNT).map(|id| id * 60_000_000));
    assert!(strides.near.is_empty(), "{}", strides.near.len());
}

#[test]
fn ids_that_go_leave_no_room_behind() {
    let mut checked = Checked::new();
    for id in 0..2_000_000 {
        checked.insert(key(id));
        if id >= 100_000 {
            checked.remove(key(id - 100_000));
        }
    }
    checked.check();
    assert!(checked.index.bytes() < 8 << 20, "{} bytes for 100,000 keys", checked.index.bytes());
    assert!(checked.index.near_keys > 50_000, "{} of 100,000 are near", checked.index.near_keys);
    (0..2_000_000).for_each(|id| checked.remove(key(id)));
    assert_eq!((checked.index.near.capacity(), checked.index.far.len()), (0, 0));
}
