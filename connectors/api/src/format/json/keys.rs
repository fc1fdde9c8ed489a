//! The order in which objects name their fields: so that the usual order costs one comparison a field.
//!
//! Producers write fields in the same order line after line. The order starts as the schema's, learns the names that the
//! schema does not have, and is looked up only where an object departs from it. A name is found without its case where that
//! is not ambiguous, as in SQL: a column declared as `ts` is filled by `"TS"`.

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
    place: Place,
}

/// What a field's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The column that its value goes to; none if it is skipped.
    pub(crate) column: Option<usize>,
    pub(crate) spelling: Spelling,
}

/// How a name was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As declared.
    Exact,
    /// But for its case; the exact spelling has precedence if an object has both.
    OtherCase,
    /// No column is named like this.
    Unknown,
}

const UNKNOWN: Place = Place { column: None, spelling: Spelling::Unknown };

impl Keys {
    /// Expects names in this order; those without a column are known, and skipped.
    pub(crate) fn new<'a>(names: impl Iterator<Item = (&'a str, Option<usize>)>) -> Keys {
        let key = |(name, column): (&str, _)| Key::new(name.as_bytes(), Place { column, spelling: Spelling::Exact });
        let order: Vec<Key> = names.map(key).collect();
        Keys { names: order.len(), order }
    }

    /// What the text says if the object is in order at this step: `"name":`, and what it means.
    #[inline]
    pub(crate) fn expected(&self, step: usize) -> Option<(&[u8], Place)> {
        let key = self.order.get(step)?;
        (!key.pattern.is_empty()).then_some((&key.pattern, key.place))
    }

    /// What a name means that was not expected at this step, and the step after it.
    pub(crate) fn find(&mut self, name: &[u8], step: usize) -> (Place, usize) {
        if let Some(at) = self.order.iter().position(|key| key.name == name) {
            return (self.order[at].place, at + 1);
        }
        let place = self.in_other_case(name);
        // Learn what comes, but do not collect the names of objects that are used as maps.
        if self.order.len() < self.names + 64 {
            self.order.insert(step.min(self.order.len()), Key::new(name, place));
            return (place, step + 1);
        }
        (place, step)
    }

    /// The one declared name that differs in case only.
    fn in_other_case(&self, name: &[u8]) -> Place {
        let same = |key: &&Key| key.place.spelling == Spelling::Exact && key.name.eq_ignore_ascii_case(name);
        let mut found = self.order.iter().filter(same);
        match (found.next(), found.next()) {
            (Some(key), None) => Place { spelling: Spelling::OtherCase, ..key.place },
            _ => UNKNOWN,
        }
    }
}

impl Key {
    fn new(name: &[u8], place: Place) -> Key {
        let plain = name.iter().all(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\'));
        let pattern = if plain { [b"\"", name, b"\":"].concat() } else { Vec::new() };
        Key { pattern, name: name.to_vec(), place }
    }
}
