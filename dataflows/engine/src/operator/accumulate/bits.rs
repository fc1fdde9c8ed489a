//! `bit_and`, `bit_or` and `bit_xor` over integers, as 64 bits with the sign extended.
//!
//! Over an input that only grows one word per group is enough. To take values back, `bit_and` and `bit_or` count for each
//! bit in how many values it is set: 64 counters a group.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};

use super::{Accumulator, Output, Rows};
use crate::Diff;

/// How bits are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    And,
    Or,
    Xor,
}

/// The accumulator of an operation on integers of this type.
pub(super) fn bits(operation: Operation, data_type: DataType, append_only: bool) -> Box<dyn Accumulator> {
    if append_only || operation == Operation::Xor {
        Box::new(Bits::<Word> { operation, data_type, groups: Vec::new() })
    } else {
        Box::new(Bits::<Counters> { operation, data_type, groups: Vec::new() })
    }
}

/// The bits of one group.
trait State: Default + Send + 'static {
    /// Bytes kept beside the struct.
    const OUTSIDE: usize;
    fn add(&mut self, word: u64, diff: Diff, operation: Operation);
    fn merge(&mut self, other: &Self, operation: Operation);
    fn get(&self, operation: Operation) -> Option<u64>;
    fn words(&self) -> Vec<u64>;
    fn from_words(words: impl Iterator<Item = u64>) -> Self;
}

/// One word; for `bit_xor` also right where values are taken back, because it is its own inverse.
#[derive(Default)]
struct Word {
    count: Diff,
    word: u64,
}

impl State for Word {
    const OUTSIDE: usize = 0;

    #[inline]
    fn add(&mut self, word: u64, diff: Diff, operation: Operation) {
        self.word = match operation {
            Operation::And if self.count == 0 => word,
            Operation::And => self.word & word,
            Operation::Or => self.word | word,
            Operation::Xor => self.word ^ if diff % 2 == 0 { 0 } else { word },
        };
        self.count += diff;
    }

    fn merge(&mut self, other: &Self, operation: Operation) {
        match operation {
            Operation::Xor => {
                self.word ^= other.word;
                self.count += other.count;
            }
            _ if other.count != 0 => self.add(other.word, other.count, operation),
            _ => {}
        }
    }

    fn get(&self, _operation: Operation) -> Option<u64> {
        (self.count > 0).then_some(self.word)
    }

    fn words(&self) -> Vec<u64> {
        vec![self.count as u64, self.word]
    }

    fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let mut next = || words.next().expect("two words");
        Word { count: next() as Diff, word: next() }
    }
}

/// In how many values each bit is set.
struct Counters {
    count: Diff,
    set: Box<[Diff; 64]>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { count: 0, set: Box::new([0; 64]) }
    }
}

impl State for Counters {
    const OUTSIDE: usize = 64 * size_of::<Diff>();

    fn add(&mut self, word: u64, diff: Diff, _operation: Operation) {
        self.count += diff;
        let mut rest = word;
        while rest != 0 {
            self.set[rest.trailing_zeros() as usize] += diff;
            rest &= rest - 1;
        }
    }

    fn merge(&mut self, other: &Self, _operation: Operation) {
        self.count += other.count;
        self.set.iter_mut().zip(other.set.iter()).for_each(|(ours, theirs)| *ours += theirs);
    }

    fn get(&self, operation: Operation) -> Option<u64> {
        let is_set = |count: Diff| if operation == Operation::And { count == self.count } else { count > 0 };
        let bit = |(bit, count): (usize, &Diff)| u64::from(is_set(*count)) << bit;
        (self.count > 0).then(|| self.set.iter().enumerate().map(bit).sum())
    }

    fn words(&self) -> Vec<u64> {
        std::iter::once(self.count).chain(self.set.iter().copied()).map(|count| count as u64).collect()
    }

    fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let mut next = || words.next().expect("65 words") as Diff;
        let count = next();
        let mut set = Box::new([0; 64]);
        set.iter_mut().for_each(|count| *count = next());
        Counters { count, set }
    }
}

struct Bits<S> {
    operation: Operation,
    data_type: DataType,
    groups: Vec<S>,
}

impl<S: State> Accumulator for Bits<S> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, S::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let argument = rows.argument.expect("functions of bits have an argument");
        let (groups, operation) = (&mut self.groups, self.operation);
        if let Some(values) = argument.as_primitive_opt::<UInt64Type>() {
            let values = values.values();
            rows.for_each(|row, group, diff| groups[group].add(values[row], diff, operation));
            return;
        }
        let widened = compute::cast(argument, &DataType::Int64).expect("smaller integers widen");
        let values = widened.as_primitive::<Int64Type>().values();
        rows.for_each(|row, group, diff| groups[group].add(values[row] as u64, diff, operation));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Self = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.groups[*ours as usize].merge(&other.groups[*theirs as usize], self.operation);
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let words = groups.iter().map(|group| self.groups[*group as usize].get(self.operation));
        let values: ArrayRef = match self.data_type {
            DataType::UInt64 => Arc::new(UInt64Array::from_iter(words)),
            _ => {
                let values = Int64Array::from_iter(words.map(|word| word.map(|word| word as i64)));
                compute::cast(&values, &self.data_type).expect("bits of values of a type are a value of that type")
            }
        };
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = S::default();
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<S>() + self.groups.len() * S::OUTSIDE
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Binary])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let bytes =
            |group: &u32| -> Vec<u8> { self.groups[*group as usize].words().into_iter().flat_map(u64::to_le_bytes).collect() };
        vec![Arc::new(BinaryArray::from_iter_values(groups.iter().map(bytes)))]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let states = columns[0].as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            let words = states.value(row).chunks_exact(8);
            let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight")));
            self.groups[*group as usize].merge(&S::from_words(words), self.operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int16Array;

    #[test]
    fn values_come_and_go() {
        let column: ArrayRef = Arc::new(Int16Array::from(vec![Some(6), Some(-2), None, Some(3)]));
        for (operation, all, rest) in [(Operation::And, 2, 6), (Operation::Or, -1, -2), (Operation::Xor, 6 ^ -2 ^ 3, 6 ^ -2)] {
            let mut bits = bits(operation, DataType::Int16, false);
            bits.resize(2);
            bits.update(&Rows::of(&[0; 4], Some(&column)));
            assert_eq!(&bits.output(&[0, 1]).values, &(Arc::new(Int16Array::from(vec![Some(all), None])) as ArrayRef));
            bits.update(&Rows { diffs: Some(&[0, 0, -1, -1]), ..Rows::of(&[0; 4], Some(&column)) });
            assert_eq!(&bits.output(&[0]).values, &(Arc::new(Int16Array::from(vec![rest])) as ArrayRef));
        }
    }

    #[test]
    fn states_travel() {
        let column: ArrayRef = Arc::new(Int16Array::from(vec![6, -2, 3]));
        for (append_only, operation, all) in [
            (true, Operation::And, 2),
            (false, Operation::And, 2),
            (true, Operation::Or, -1),
            (false, Operation::Or, -1),
            (false, Operation::Xor, 6 ^ -2 ^ 3),
        ] {
            let mut parts = [0, 1].map(|_| bits(operation, DataType::Int16, append_only));
            parts.iter_mut().for_each(|part| part.resize(3));
            parts[0].update(&Rows::of(&[1], Some(&column.slice(0, 1))));
            parts[1].update(&Rows::of(&[0, 2], Some(&column.slice(1, 2))));
            let state = parts[1].partial(&[0, 2, 1]);
            parts[0].update_partial(&[1, 1, 1], &state);
            assert_eq!(&parts[0].output(&[1]).values, &(Arc::new(Int16Array::from(vec![all])) as ArrayRef));
        }
    }
}
