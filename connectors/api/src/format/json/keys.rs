//! The order in which objects name their fields: so that the usual order costs one comparison a field.
//!
//! Producers write fields in the same order line after line. The order starts as the schema's, learns the names that the
//! schema does not have, and is looked up only where an object departs from it.

/// The expected order of an object's fields.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    order: Vec<Key>,
    names: usize,
}

#[derive(Debug)]
struct Key {
    /// `"name":`, or nothing if the name needs escapes.
    pattern: Vec<u8>,
    /// The name itself.
    name: Vec<u8>,
    /// Its column; none if it is skipped.
    column: Option<usize>,
}

impl Keys {
    /// Expects columns in this order.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Keys {
        let order: Vec<Key> = names.enumerate().map(|(column, name)| Key::new(name.as_bytes(), Some(column))).collect();
        Keys { names: order.len(), order }
    }

    /// What the text says if the object is in order at this step: `"name":`, and the column.
    #[inline]
    pub(crate) fn expected(&self, step: usize) -> Option<(&[u8], Option<usize>)> {
        let key = self.order.get(step)?;
        (!key.pattern.is_empty()).then_some((&key.pattern, key.column))
    }

    /// The column of a name that was not expected at this step, and the step after it.
    pub(crate) fn find(&mut self, name: &[u8], step: usize) -> (Option<usize>, usize) {
        if let Some(at) = self.order.iter().position(|key| key.name == name) {
            return (self.order[at].column, at + 1);
        }
        // Learn what to skip, but do not collect the names of objects that are used as maps.
        if self.order.len() < self.names + 64 {
            self.order.insert(step.min(self.order.len()), Key::new(name, None));
            return (None, step + 1);
        }
        (None, step)
    }
}

impl Key {
    fn new(name: &[u8], column: Option<usize>) -> Key {
        let plain = name.iter().all(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\'));
        let pattern = if plain { [b"\"", name, b"\":"].concat() } else { Vec::new() };
        Key { pattern, name: name.to_vec(), column }
    }
}
