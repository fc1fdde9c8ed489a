//! The tokens of a JSON text, in place: a position that checks and moves on.
//!
//! `serde_json` with a seed per column was measured first; its visitors cost more than the characters. This cursor checks
//! the same grammar (a property test holds the two against each other), works on text that is known to be UTF-8, scans
//! strings eight bytes at a time, and borrows what has no escapes. What is rare is left to `serde_json`: strings with escapes.

use std::fmt;

/// How deep arrays and objects may nest.
const DEPTH_MAX: usize = 128;

/// Why a value was refused, and where.
#[derive(Debug)]
pub(crate) struct Fault(Box<FaultInner>);

#[derive(Debug)]
struct FaultInner {
    /// Byte in the record.
    at: usize,
    /// What was expected or found.
    what: String,
    /// Columns around it, innermost first.
    path: Vec<String>,
}

impl Fault {
    /// A fault at a byte.
    #[cold]
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Fault {
        Fault(Box::new(FaultInner { at, what: what.into(), path: Vec::new() }))
    }

    /// Says in which column it is.
    #[cold]
    pub(crate) fn within(mut self, column: &str) -> Fault {
        self.0.path.push(column.to_string());
        self
    }
}

impl From<String> for Fault {
    fn from(what: String) -> Fault {
        Fault::new(0, what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultInner { at, what, path } = &*self.0;
        if !path.is_empty() {
            let path: Vec<&str> = path.iter().rev().map(String::as_str).collect();
            write!(f, "column '{}': ", path.join("."))?;
        }
        write!(f, "{what} at byte {at}")
    }
}

/// A position in a JSON text.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// The characters of a string.
#[derive(Debug)]
pub(crate) enum Text<'a> {
    /// As they stand in the text.
    Borrowed(&'a [u8]),
    /// After its escapes were resolved.
    Owned(String),
}

impl Text<'_> {
    /// The characters.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Text::Borrowed(bytes) => bytes,
            Text::Owned(text) => text.as_bytes(),
        }
    }
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of a text that is UTF-8.
    pub(crate) fn new(text: &'a str) -> Self {
        Cursor { text: text.as_bytes(), at: 0 }
    }

    /// Starts at a part of a text; positions still count from the text's beginning.
    pub(crate) fn within(text: &'a str, part: std::ops::Range<usize>) -> Self {
        Cursor { text: &text.as_bytes()[..part.end], at: part.start }
    }

    /// Bytes before the position.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text between two positions.
    pub(crate) fn between(&self, start: usize, end: usize) -> &'a [u8] {
        &self.text[start..end]
    }

    /// The next byte that is not white space, without moving past it.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    /// Moves past `byte` if it is next, without skipping white space.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Moves past `expected` if the text goes on with exactly it.
    #[inline]
    pub(crate) fn take_all(&mut self, expected: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    /// Moves past white space and `byte`.
    pub(crate) fn expect(&mut self, byte: u8, what: &str) -> Result<(), Fault> {
        self.peek();
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    /// A field that is not declared, whose name begins at `at`.
    #[cold]
    pub(crate) fn unknown_field(&self, at: usize) -> Fault {
        let name = String::from_utf8_lossy(&self.text[at..self.at]);
        let name = name.trim_end().trim_end_matches(':').trim_end().trim_matches('"');
        Fault::new(at, format!("unknown field '{name}' (ignore_unknown_fields is false)"))
    }

    /// A syntax error here.
    #[cold]
    pub(crate) fn unexpected(&self, expected: &str) -> Fault {
        let found = match std::str::from_utf8(&self.text[self.at..]).ok().and_then(|rest| rest.chars().next()) {
            Some(found) => format!("{found:?}"),
            None if self.at >= self.text.len() => "the end".to_string(),
            None => "a broken character".to_string(),
        };
        Fault::new(self.at, format!("not valid JSON: expected {expected}, found {found}"))
    }

    /// Moves past a string whose opening quote is next.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Fault> {
        let open = self.at;
        self.at += 1;
        let start = self.at;
        self.at = plain_end(self.text, start);
        match self.text.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Text::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped_string(open),
            Some(_) => Err(Fault::new(self.at, "not valid JSON: control character in a string")),
            None => Err(Fault::new(open, "not valid JSON: string without an end")),
        }
    }

    #[cold]
    fn escaped_string(&mut self, open: usize) -> Result<Text<'a>, Fault> {
        self.string_end(open)?;
        match serde_json::from_slice(&self.text[open..self.at]) {
            Ok(text) => Ok(Text::Owned(text)),
            Err(error) => Err(Fault::new(open, format!("not valid JSON: {}", first_words(&error.to_string())))),
        }
    }

    /// Moves to behind the closing quote.
    fn string_end(&mut self, open: usize) -> Result<(), Fault> {
        loop {
            self.at = plain_end(self.text, self.at);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(b'\\') | None => {
                    self.at = self.text.len();
                    return Err(Fault::new(open, "not valid JSON: string without an end"));
                }
                Some(_) => return Err(Fault::new(self.at, "not valid JSON: control character in a string")),
            }
        }
    }

    /// Moves past a number; gives its text and whether it has neither point nor exponent.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<(&'a [u8], bool), Fault> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.unexpected("a number"));
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        Ok((&self.text[start..self.at], whole))
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    /// Moves past `null`, `true` or `false`, of which the first letter is next.
    #[inline]
    pub(crate) fn word(&mut self, word: &str) -> Result<(), Fault> {
        if self.take_all(word.as_bytes()) { Ok(()) } else { Err(self.unexpected("a value")) }
    }

    /// Moves past any value, checking all of it.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        // The closing brackets that are owed, innermost last.
        let mut open = [0_u8; DEPTH_MAX];
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    self.peek();
                    if !self.take(close) {
                        if depth == DEPTH_MAX {
                            return Err(Fault::new(self.at, format!("nested deeper than {DEPTH_MAX} levels")));
                        }
                        open[depth] = close;
                        depth += 1;
                        if close == b'}' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.skip_string()?,
                Some(b'n') => self.word("null")?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                _ => drop(self.number()?),
            }
            // A value has ended: so may the arrays and objects that it is the last of.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let close = open[depth - 1];
                self.peek();
                if self.take(b',') {
                    if close == b'}' {
                        self.skip_key()?;
                    }
                    break;
                }
                if !self.take(close) {
                    return Err(self.unexpected(if close == b'}' { "',' or '}'" } else { "',' or ']'" }));
                }
                depth -= 1;
            }
        }
    }

    fn skip_key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a field name"));
        }
        self.skip_string()?;
        self.expect(b':', "':'")
    }

    /// Moves past a string; its escapes are checked too.
    fn skip_string(&mut self) -> Result<(), Fault> {
        self.string().map(drop)
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end")),
        }
    }
}

/// Where the characters that stand for themselves end: at a quote, a backslash, a control character, or the end.
#[inline]
fn plain_end(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A zero byte in `word ^ (ONES * c)` is a `c`; the lowest one found is exact, which is all that is used.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the slice has eight bytes"));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\')) {
        at += 1;
    }
    at
}

/// `serde_json`'s message without its own line and column.
fn first_words(message: &str) -> &str {
    message.split(" at line").next().unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let mut cursor = Cursor::new(text);
        cursor.skip().is_ok() && cursor.end().is_ok()
    }

    /// Holds the cursor against `Value`, which also checks surrogates, as `IgnoredAny` does not.
    fn agrees(text: &str) -> Result<(), TestCaseError> {
        match serde_json::from_str::<serde_json::Value>(text) {
            // It stops at a number that is too large and does not look at the rest; a skipped number may be of any size.
            Err(error) if error.to_string().starts_with("number out of range") => {}
            parsed => prop_assert_eq!(accepts(text), parsed.is_ok(), "{}", text),
        }
        Ok(())
    }

    #[test]
    fn a_skipped_value_is_checked() {
        for text in
            ["1", "-0.5e+3", "\"\"", "[]", "{}", "[1,[2,{\"a\":null}],true]", " { \"a\" : [ ] } ", r#""\ud83d\ude00""#, "0"]
        {
            assert!(accepts(text), "{text}");
        }
        for text in [
            "",
            "01",
            "-",
            "1.",
            "1e",
            "nul",
            "[1,]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "[1 2]",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\ud83d""#,
            "\"",
            "\"\\",
            "1 2",
            "]",
            "tru",
            "+1",
            ".5",
            "NaN",
        ] {
            assert!(!accepts(text), "{text}");
        }
        assert!(accepts(&format!("{}{}", "[".repeat(128), "]".repeat(128))));
        assert!(!accepts(&"[".repeat(100_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{},:"\\0-9eE.+\-u a-dn\u{1}é]{0,24}|(\{"a":)?[\[ "0-9nultrefase,\]\}]{0,20}"#) {
            agrees(&text)?;
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_texts(at in 0_usize..70, byte in 0_u8..128) {
            let mut text = br#"{"a":[1,-2.5e3,"x\n\u00e9",null,true],"b":{"c":false,"d":"long plain text"}}"#.to_vec();
            let at = at % text.len();
            text[at] = byte;
            let text = String::from_utf8(text).expect("bytes below 128");
            agrees(&text)?;
        }

        #[test]
        fn plain_text_ends_where_a_slow_look_says(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len());
            prop_assert_eq!(plain_end(&bytes, 0), slow);
        }
    }
}
