//! Dense numbers for keys: from key values to group numbers, batch at a time.
//!
//! One or two columns of at most eight bytes are kept as plain words, found by hash or, if they are ids, in an array ([`index`]);
//! every other key as its order-preserving row bytes in one arena, found by hash. Floats are kept as all that are equal are written: one zero, one NaN. Numbers of removed keys are used again, so that per-group vectors do not grow for ever.

mod dense;
mod index;
mod stored;

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::downcast_primitive_array;
use arrow_row::{RowConverter, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

pub(crate) use self::index::FAR;
use self::index::Index;
use self::stored::{Stored, Word};
use crate::hash::{hash_bytes, one_float, one_float32};

/// The number of a key that [`Keys::find`] does not know.
pub(crate) const ABSENT: u32 = u32::MAX;

/// A set of keys, each with a number below [`Keys::bound`].
pub(crate) struct Keys {
    table: Table,
    free: Vec<u32>,
    live: usize,
}

enum Table {
    /// No columns: at most one key.
    Unit,
    One(Fixed<1>),
    Two(Fixed<2>),
    Rows(Encoded),
}

impl Keys {
    /// No keys yet, over columns of these types.
    pub(crate) fn new(types: &[DataType]) -> Self {
        let fixed = types.iter().all(is_word);
        let table = match types.len() {
            0 => Table::Unit,
            1 if fixed => Table::One(Fixed::new(types)),
            2 if fixed => Table::Two(Fixed::new(types)),
            _ => Table::Rows(Encoded::new(types)),
        };
        Keys { table, free: Vec::new(), live: 0 }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// One more than the largest number ever given.
    pub(crate) fn bound(&self) -> usize {
        match &self.table {
            Table::Unit => self.live + self.free.len(),
            Table::One(table) => table.keys.len(),
            Table::Two(table) => table.keys.len(),
            Table::Rows(table) => table.slots.len(),
        }
    }

    /// About how many bytes the keys take.
    pub(crate) fn bytes(&self) -> usize {
        match &self.table {
            Table::Unit => 0,
            Table::One(table) => table.keys.bytes() + table.index.bytes(),
            Table::Two(table) => table.keys.bytes() + table.index.bytes(),
            Table::Rows(table) => table.arena.capacity() + table.slots.capacity() * 16 + table.index.capacity() * 17,
        }
    }

    /// Makes room for this many keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        match &mut self.table {
            Table::Unit => {}
            Table::One(table) => table.reserve(keys),
            Table::Two(table) => table.reserve(keys),
            Table::Rows(table) => {
                table.index.reserve(keys, |entry| entry.0);
                table.slots.reserve(keys);
            }
        }
    }

    /// Says which keys will come, perhaps some more, while there are none yet: key columns of all batches.
    ///
    /// Cost: a pass over keys of one word, two if they are in few batches; none over others.
    pub(crate) fn expect(&mut self, batches: &[Vec<ArrayRef>]) {
        if let Table::One(table) = &mut self.table {
            table.expect(batches);
        }
    }

    /// The number of each row's key, new keys added, into `numbers`, which is overwritten.
    pub(crate) fn intern(&mut self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) {
        numbers.clear();
        numbers.reserve(rows);
        match &mut self.table {
            Table::Unit => {
                if rows > 0 && self.live == 0 {
                    self.free.clear();
                    self.live = 1;
                }
                numbers.resize(rows, 0);
            }
            Table::One(table) => table.intern(columns, rows, numbers, &mut self.free, &mut self.live),
            Table::Two(table) => table.intern(columns, rows, numbers, &mut self.free, &mut self.live),
            Table::Rows(table) => table.intern(columns, numbers, &mut self.free, &mut self.live),
        }
    }

    /// The number of each row's key, [`ABSENT`] if there is none, into `numbers`, which is overwritten.
    pub(crate) fn find(&self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) {
        numbers.clear();
        numbers.reserve(rows);
        match &self.table {
            Table::Unit => numbers.resize(rows, if self.live > 0 { 0 } else { ABSENT }),
            Table::One(table) => table.find(columns, rows, numbers),
            Table::Two(table) => table.find(columns, rows, numbers),
            Table::Rows(table) => table.find(columns, numbers),
        }
    }

    /// The key columns of these numbers.
    pub(crate) fn columns(&self, numbers: &[u32]) -> Vec<ArrayRef> {
        match &self.table {
            Table::Unit => Vec::new(),
            Table::One(table) => table.columns(numbers),
            Table::Two(table) => table.columns(numbers),
            Table::Rows(table) => table.columns(numbers),
        }
    }

    /// Forgets a key; its number will be used again.
    pub(crate) fn remove(&mut self, number: u32) {
        match &mut self.table {
            Table::Unit => {}
            Table::One(table) => table.remove(number),
            Table::Two(table) => table.remove(number),
            Table::Rows(table) => table.remove(number),
        }
        self.free.push(number);
        self.live -= 1;
    }

    /// The numbers of all keys, ascending.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.numbers_from(0)
    }

    /// The numbers of keys from one on, ascending.
    pub(crate) fn numbers_from(&self, first: u32) -> Vec<u32> {
        let bound = (self.bound() as u32).max(first);
        if self.free.is_empty() {
            return (first..bound).collect();
        }
        let mut freed = vec![false; (bound - first) as usize];
        for number in self.free.iter().filter(|number| **number >= first) {
            freed[(*number - first) as usize] = true;
        }
        (first..bound).filter(|number| !freed[(*number - first) as usize]).collect()
    }
}

/// Whether a column's values are words of at most eight bytes.
fn is_word(data_type: &DataType) -> bool {
    data_type.is_primitive() && data_type.primitive_width().is_some_and(|width| width <= 8)
}

/// The values of a column of words, widened to eight bytes.
fn words(column: &ArrayRef) -> std::borrow::Cow<'_, [u64]> {
    let array = column.as_ref();
    if let Some(bits) = float_bits(column) {
        return bits.into();
    }
    downcast_primitive_array!(
        array => {
            let buffer = array.values().inner();
            match buffer.len() / array.len().max(1) {
                8 => std::borrow::Cow::Borrowed(buffer.typed_data::<u64>()),
                4 => buffer.typed_data::<u32>().iter().map(|value| u64::from(*value)).collect::<Vec<_>>().into(),
                2 => buffer.typed_data::<u16>().iter().map(|value| u64::from(*value)).collect::<Vec<_>>().into(),
                _ => buffer.typed_data::<u8>().iter().map(|value| u64::from(*value)).collect::<Vec<_>>().into(),
            }
        }
        other => unreachable!("{other} is not a column of words")
    )
}

/// The bits of floats as all that are equal have them; none of other columns.
fn float_bits(column: &ArrayRef) -> Option<Vec<u64>> {
    match column.data_type() {
        DataType::Float64 => Some(column.as_primitive::<Float64Type>().values().iter().map(|value| one_float(*value)).collect()),
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values().iter();
            Some(values.map(|value| u64::from(one_float32(*value))).collect())
        }
        _ => None,
    }
}

/// The columns of keys as all that are equal have them: -0.0 is 0.0, and there is one NaN.
fn plain_floats(columns: &[ArrayRef]) -> std::borrow::Cow<'_, [ArrayRef]> {
    let is_float = |column: &ArrayRef| matches!(column.data_type(), DataType::Float64 | DataType::Float32);
    if !columns.iter().any(is_float) {
        return columns.into();
    }
    let plain = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Float64 => {
                let column = column.as_primitive::<Float64Type>();
                Arc::new(column.unary::<_, Float64Type>(|value| f64::from_bits(one_float(value))))
            }
            DataType::Float32 => {
                let column = column.as_primitive::<Float32Type>();
                Arc::new(column.unary::<_, Float32Type>(|value| f32::from_bits(one_float32(value))))
            }
            _ => Arc::clone(column),
        }
    };
    columns.iter().map(plain).collect::<Vec<ArrayRef>>().into()
}

/// A column of `data_type` from words and validity.
pub(crate) fn column_of_words(
    words: impl ExactSizeIterator<Item = u64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    let length = words.len();
    let buffer = match data_type.primitive_width().expect("a column of words is primitive") {
        8 => words.collect::<Buffer>(),
        4 => words.map(|word| word as u32).collect::<Buffer>(),
        2 => words.map(|word| word as u16).collect::<Buffer>(),
        _ => words.map(|word| word as u8).collect::<Buffer>(),
    };
    let data = ArrayData::builder(data_type.clone()).len(length).add_buffer(buffer).nulls(nulls).build();
    make_array(data.expect("one word per value"))
}

/// How many keys, rows or values of what the cache does not hold are looked for at a time.
pub(crate) const AT_ONCE: usize = 128;

struct Fixed<const N: usize> {
    types: Vec<DataType>,
    index: Index<N>,
    keys: Stored<N>,
}

impl<const N: usize> Fixed<N> {
    fn new(types: &[DataType]) -> Self {
        Fixed { types: types.to_vec(), index: Index::new(), keys: Stored::new() }
    }

    #[inline]
    fn each_key(columns: &[ArrayRef], rows: usize, take: impl FnMut(Word<N>)) {
        let values: [std::borrow::Cow<'_, [u64]>; N] = std::array::from_fn(|index| words(&columns[index]));
        let values: [&[u64]; N] = std::array::from_fn(|index| &values[index][..rows]);
        if columns.iter().all(|column| column.null_count() == 0) {
            let word = |row: usize| Word { words: std::array::from_fn(|index| values[index][row]), nulls: 0 };
            return (0..rows).map(word).for_each(take);
        }
        let word = |row: usize| {
            let mut key = Word { words: [0; N], nulls: 0 };
            for (index, column) in columns.iter().enumerate() {
                if column.is_null(row) {
                    key.nulls |= 1 << index;
                } else {
                    key.words[index] = values[index][row];
                }
            }
            key
        };
        (0..rows).map(word).for_each(take);
    }

    /// The keys, [so many](AT_ONCE) at a time.
    fn some_keys(columns: &[ArrayRef], rows: usize, mut take: impl FnMut(&[Word<N>])) {
        let mut some = Vec::with_capacity(AT_ONCE.min(rows));
        Self::each_key(columns, rows, |key| {
            some.push(key);
            if some.len() == AT_ONCE {
                take(&some);
                some.clear();
            }
        });
        if !some.is_empty() {
            take(&some);
        }
    }

    fn intern(&mut self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>, free: &mut Vec<u32>, live: &mut usize) {
        if !self.index.is_large() {
            return Self::each_key(columns, rows, |key| numbers.push(self.number(key, free, live)));
        }
        Self::some_keys(columns, rows, |wanted| {
            for (key, number) in wanted.iter().zip(self.look(wanted, numbers)).filter(|(_, number)| **number == ABSENT) {
                *number = self.number(*key, free, live);
            }
        });
    }

    /// The number of a key, which is added if it is new.
    #[inline]
    fn number(&mut self, key: Word<N>, free: &mut Vec<u32>, live: &mut usize) -> u32 {
        let keys = &mut self.keys;
        let mut is_new = false;
        let bound = keys.len() as u32;
        let number = self.index.number(key, keys, || {
            is_new = true;
            free.pop().unwrap_or(bound)
        });
        if is_new {
            keys.set(number, key);
            *live += 1;
        }
        number
    }

    /// Adds the numbers of keys that the range has, and [`ABSENT`] for others; gives what was added. One look after the other waits
    /// for memory each time; these do not depend on each other, and the processor waits for many at once.
    fn look<'a>(&self, wanted: &[Word<N>], numbers: &'a mut Vec<u32>) -> &'a mut [u32] {
        let (first, mut are_near) = (numbers.len(), true);
        numbers.extend(wanted.iter().map(|key| {
            let number = self.index.near(key);
            are_near &= number.is_some();
            number.unwrap_or(ABSENT)
        }));
        if !are_near {
            self.approach(wanted);
        }
        &mut numbers[first..]
    }

    /// Has the cache get what looking for those of these keys will read that are in no range.
    fn approach(&self, wanted: &[Word<N>]) {
        let (mut likely, mut count, mut read) = ([0; AT_ONCE], 0, 0);
        for key in wanted.iter().filter(|key| self.index.near(key).is_none()) {
            likely[count] = self.index.likely(key);
            count += 1;
        }
        for number in &likely[..count] {
            read ^= self.keys.word(*number, 0).unwrap_or(0);
        }
        std::hint::black_box(read);
    }

    fn reserve(&mut self, keys: usize) {
        self.index.expect(self.keys.len() + keys, &self.keys);
        self.keys.reserve(keys);
    }

    fn find(&self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) {
        let find = |key: &Word<N>| self.index.find(key, &self.keys);
        if !self.index.is_large() {
            return Self::each_key(columns, rows, |key| numbers.push(find(&key)));
        }
        Self::some_keys(columns, rows, |wanted| {
            for (key, number) in wanted.iter().zip(self.look(wanted, numbers)).filter(|(_, number)| **number == ABSENT) {
                *number = find(key);
            }
        });
    }

    fn columns(&self, numbers: &[u32]) -> Vec<ArrayRef> {
        (0..N)
            .map(|column| {
                let is_valid = |number: &u32| self.keys.nulls(*number) & (1 << column) == 0;
                let any_null = !numbers.iter().all(is_valid);
                let nulls = any_null.then(|| NullBuffer::new(numbers.iter().map(is_valid).collect::<BooleanBuffer>()));
                let words = numbers.iter().map(|number| self.keys.word(*number, column).expect("numbers are of keys"));
                column_of_words(words, nulls, &self.types[column])
            })
            .collect()
    }

    fn remove(&mut self, number: u32) {
        self.index.remove(&self.keys.get(number), number);
    }
}

/// Keys as row bytes in an arena.
struct Encoded {
    converter: RowConverter,
    index: HashTable<(u64, u32)>,
    slots: Vec<(usize, u32)>,
    arena: Vec<u8>,
    garbage: usize,
}

impl Encoded {
    fn new(types: &[DataType]) -> Self {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Encoded {
            converter: RowConverter::new(fields).expect("planners allow only keys that have an order"),
            index: HashTable::new(),
            slots: Vec::new(),
            arena: Vec::new(),
            garbage: 0,
        }
    }

    fn bytes_of(slots: &[(usize, u32)], arena: &[u8], number: u32) -> std::ops::Range<usize> {
        let (start, length) = slots[number as usize];
        debug_assert!(start + length as usize <= arena.len(), "a slot lies in the arena");
        start..start + length as usize
    }

    fn intern(&mut self, columns: &[ArrayRef], numbers: &mut Vec<u32>, free: &mut Vec<u32>, live: &mut usize) {
        let rows = self.converter.convert_columns(&plain_floats(columns)).expect("key columns have the converter's types");
        let (index, slots, arena) = (&mut self.index, &mut self.slots, &mut self.arena);
        for row in rows.iter() {
            let bytes = row.data();
            let hash = hash_bytes(0, bytes);
            let same = |entry: &(u64, u32)| entry.0 == hash && &arena[Self::bytes_of(slots, arena, entry.1)] == bytes;
            let number = match index.entry(hash, same, |entry| entry.0) {
                Entry::Occupied(entry) => entry.get().1,
                Entry::Vacant(entry) => {
                    let number = free.pop().unwrap_or(slots.len() as u32);
                    entry.insert((hash, number));
                    let slot = (arena.len(), bytes.len() as u32);
                    arena.extend_from_slice(bytes);
                    match slots.get_mut(number as usize) {
                        Some(old) => *old = slot,
                        None => slots.push(slot),
                    }
                    *live += 1;
                    number
                }
            };
            numbers.push(number);
        }
    }

    fn find(&self, columns: &[ArrayRef], numbers: &mut Vec<u32>) {
        let rows = self.converter.convert_columns(&plain_floats(columns)).expect("key columns have the converter's types");
        for row in rows.iter() {
            let bytes = row.data();
            let hash = hash_bytes(0, bytes);
            let same =
                |entry: &(u64, u32)| entry.0 == hash && &self.arena[Self::bytes_of(&self.slots, &self.arena, entry.1)] == bytes;
            numbers.push(self.index.find(hash, same).map_or(ABSENT, |entry| entry.1));
        }
    }

    fn columns(&self, numbers: &[u32]) -> Vec<ArrayRef> {
        let parser = self.converter.parser();
        let rows = numbers.iter().map(|number| parser.parse(&self.arena[Self::bytes_of(&self.slots, &self.arena, *number)]));
        self.converter.convert_rows(rows).expect("the bytes came from this converter")
    }

    fn remove(&mut self, number: u32) {
        let range = Self::bytes_of(&self.slots, &self.arena, number);
        let hash = hash_bytes(0, &self.arena[range.clone()]);
        if let Ok(entry) = self.index.find_entry(hash, |entry| entry.1 == number) {
            entry.remove();
        }
        self.garbage += range.len();
        self.slots[number as usize] = (0, 0);
        if self.garbage > 64 * 1024 && self.garbage > self.arena.len() / 2 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for slot in &mut self.slots {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[slot.0..slot.0 + slot.1 as usize]);
            slot.0 = start;
        }
        self.arena = arena;
        self.garbage = 0;
    }
}

/// The bytes of an array's buffers, about.
pub(crate) fn array_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            let offsets = array.offsets();
            array.len() * 4 + (offsets[array.len()] - offsets[0]) as usize
        }
        data_type => match data_type.primitive_width() {
            Some(width) => array.len() * width,
            None => array.get_array_memory_size(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_floats_are_one_key() {
        use arrow::array::{Float64Array, StringArray};
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"; 5]));
        for columns in [vec![Arc::clone(&floats)], vec![Arc::clone(&floats), texts]] {
            let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
            let (mut keys, mut numbers) = (Keys::new(&types), Vec::new());
            keys.intern(&columns, 5, &mut numbers);
            assert_eq!(numbers, [0, 0, 1, 1, 2]);
            let mut hashes = Vec::new();
            crate::hash::hash_columns(&columns, 5, &mut hashes);
            assert_eq!((hashes[0], hashes[2]), (hashes[1], hashes[3]), "they go to the same worker");
        }
    }
    use arrow::array::{Int16Array, Int64Array, StringArray, TimestampMillisecondArray};
    use std::sync::Arc;

    fn check(columns: Vec<ArrayRef>) {
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        let rows = columns[0].len();
        let mut keys = Keys::new(&types);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        keys.intern(&columns, rows, &mut first);
        keys.intern(&columns, rows, &mut second);
        assert_eq!(first, second);
        for (back, column) in keys.columns(&first).iter().zip(&columns) {
            assert_eq!(back, column);
        }
        let distinct = keys.len();
        keys.find(&columns, rows, &mut second);
        assert_eq!(first, second);
        keys.remove(first[0]);
        keys.find(&columns, rows, &mut second);
        assert_eq!(second[0], ABSENT);
        assert_eq!(keys.len(), distinct - 1);
        assert_eq!(keys.numbers().len(), distinct - 1);
        keys.intern(&columns, rows, &mut second);
        assert_eq!(first, second, "the freed number is used again");
        assert_eq!(keys.bound(), distinct);
    }

    #[test]
    fn keys_of_every_form_go_in_and_come_back() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(0), Some(5), Some(-1)]));
        let shorts: ArrayRef = Arc::new(Int16Array::from(vec![Some(1), Some(1), None, Some(1), Some(-7)]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3, 1, 5]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("a"), Some("b")]));
        check(vec![Arc::clone(&ints)]);
        check(vec![Arc::clone(&shorts)]);
        check(vec![Arc::clone(&ints), Arc::clone(&times)]);
        check(vec![Arc::clone(&shorts), Arc::clone(&ints)]);
        check(vec![Arc::clone(&texts)]);
        check(vec![texts, ints, times]);
    }

    #[test]
    fn many_keys_are_told_apart_as_few_are() {
        let rows = FAR + 3 * AT_ONCE / 2;
        let numbers = |step: usize| (0..rows).map(|row| Some((row * step % rows) as i64)).collect::<Int64Array>();
        let columns: [ArrayRef; 2] = [1, 7].map(|step| Arc::new(numbers(step)) as ArrayRef);
        let mut keys = Keys::new(&[DataType::Int64]);
        let (mut first, mut again, mut found) = (Vec::new(), Vec::new(), Vec::new());
        keys.intern(&columns[..1], rows, &mut first);
        assert_eq!((first.len(), keys.len()), (rows, rows));
        keys.intern(&columns[1..], rows, &mut again);
        keys.find(&columns[1..], rows, &mut found);
        assert_eq!((keys.len(), &again), (rows, &found));
        assert!(again.iter().enumerate().all(|(row, number)| *number == first[row * 7 % rows]));
    }

    #[test]
    fn slices_are_interned_from_their_offset() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let mut keys = Keys::new(&[DataType::Int64]);
        let mut numbers = Vec::new();
        keys.intern(&[ints.slice(2, 2)], 2, &mut numbers);
        assert_eq!(*keys.columns(&numbers)[0], Int64Array::from(vec![3, 4]));
    }
}
