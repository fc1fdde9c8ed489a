//! JSON text, looked into without being taken apart: members and items are slices of the text.

/// The text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

type Found<'a> = Result<Option<&'a str>, Invalid>;

/// How deep values may stand in each other.
const DEPTH_MAX: usize = 512;

fn blank(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the string that starts at `at` ends.
fn string_end(bytes: &[u8], at: usize) -> Result<usize, Invalid> {
    let mut end = at + 1;
    loop {
        match bytes.get(end).ok_or(Invalid)? {
            b'"' => return Ok(end + 1),
            b'\\' => end += 2,
            0..0x20 => return Err(Invalid),
            _ => end += 1,
        }
    }
}

/// Where the value that starts at `at` ends.
fn value_end(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Invalid> {
    match bytes.get(at).ok_or(Invalid)? {
        b'"' => string_end(bytes, at),
        b'{' if depth < DEPTH_MAX => {
            let mut end = blank(bytes, at + 1);
            if bytes.get(end) == Some(&b'}') {
                return Ok(end + 1);
            }
            loop {
                let (_, value) = member_at(bytes, end)?;
                end = blank(bytes, value_end(bytes, value, depth + 1)?);
                match bytes.get(end) {
                    Some(b',') => end = blank(bytes, end + 1),
                    Some(b'}') => return Ok(end + 1),
                    _ => return Err(Invalid),
                }
            }
        }
        b'[' if depth < DEPTH_MAX => {
            let mut end = blank(bytes, at + 1);
            if bytes.get(end) == Some(&b']') {
                return Ok(end + 1);
            }
            loop {
                end = blank(bytes, value_end(bytes, end, depth + 1)?);
                match bytes.get(end) {
                    Some(b',') => end = blank(bytes, end + 1),
                    Some(b']') => return Ok(end + 1),
                    _ => return Err(Invalid),
                }
            }
        }
        b'-' | b'0'..=b'9' => {
            let more = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
            let end = at + bytes[at..].iter().take_while(more).count();
            let text = std::str::from_utf8(&bytes[at..end]).map_err(|_| Invalid)?;
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| Invalid)?;
            Ok(end)
        }
        _ => ["true", "false", "null"]
            .iter()
            .find(|word| bytes[at..].starts_with(word.as_bytes()))
            .map(|word| at + word.len())
            .ok_or(Invalid),
    }
}

/// The end of the name and the start of the value of the member that starts at `at`.
fn member_at(bytes: &[u8], at: usize) -> Result<(usize, usize), Invalid> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Invalid);
    }
    let name = string_end(bytes, at)?;
    let colon = blank(bytes, name);
    if bytes.get(colon) != Some(&b':') {
        return Err(Invalid);
    }
    Ok((name, blank(bytes, colon + 1)))
}

/// The text without blanks around it, if it is one value.
pub(super) fn valid(text: &str) -> Result<&str, Invalid> {
    let bytes = text.as_bytes();
    let start = blank(bytes, 0);
    let end = value_end(bytes, start, 0)?;
    if blank(bytes, end) != bytes.len() { Err(Invalid) } else { Ok(&text[start..end]) }
}

/// The members of an object, in order: names between quotes, and values.
pub(super) fn members<'a>(object: &'a str, mut take: impl FnMut(&'a str, &'a str)) -> Result<bool, Invalid> {
    let bytes = object.as_bytes();
    let mut at = blank(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return Ok(false);
    }
    at = blank(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(true);
    }
    loop {
        let (name, value) = member_at(bytes, at)?;
        let end = value_end(bytes, value, 0)?;
        take(&object[at..name], &object[value..end]);
        at = blank(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b'}') => return Ok(true),
            _ => return Err(Invalid),
        }
    }
}

/// The items of an array, in order; false if it is none.
pub(super) fn items<'a>(array: &'a str, mut take: impl FnMut(&'a str)) -> Result<bool, Invalid> {
    let bytes = array.as_bytes();
    let mut at = blank(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return Ok(false);
    }
    at = blank(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(true);
    }
    loop {
        let end = value_end(bytes, at, 0)?;
        take(&array[at..end]);
        at = blank(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b']') => return Ok(true),
            _ => return Err(Invalid),
        }
    }
}

/// The member of an object: of a name that comes twice the last.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Found<'a> {
    let mut found = None;
    members(object, |quoted, value| {
        if same(quoted, name) {
            found = Some(value);
        }
    })?;
    Ok(found)
}

fn same(quoted: &str, name: &str) -> bool {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') { serde_json::from_str::<String>(quoted).is_ok_and(|found| found == name) } else { inner == name }
}

/// The item of an array, from 0, or from the end if negative.
pub(super) fn item(array: &str, index: i64) -> Found<'_> {
    let mut wanted = index;
    if index < 0 {
        let mut count = 0;
        items(array, |_| count += 1)?;
        wanted = count + index;
    }
    let (mut found, mut at) = (None, 0);
    items(array, |item| {
        if at == wanted {
            found = Some(item);
        }
        at += 1;
    })?;
    Ok(found)
}

/// The text of a value: of a string what it says, NULL of null.
pub(super) fn text(value: &str) -> Result<Option<std::borrow::Cow<'_, str>>, Invalid> {
    if value == "null" {
        return Ok(None);
    }
    if !value.starts_with('"') {
        return Ok(Some(value.into()));
    }
    let inner = &value[1..value.len() - 1];
    if inner.contains('\\') {
        return serde_json::from_str::<String>(value).map(|text| Some(text.into())).map_err(|_| Invalid);
    }
    Ok(Some(inner.into()))
}

/// `object`, `array`, `string`, `number`, `boolean` or `null`.
pub(super) fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_items_are_slices() {
        let text = r#" {"a": {"b": [1, "x\"]", {}]}, "a\u0062": -1.5e3, "a": 2} "#;
        assert_eq!(member(text, "a"), Ok(Some("2")));
        assert_eq!(member(text, "ab"), Ok(Some("-1.5e3")));
        assert_eq!(member(text, "c"), Ok(None));
        assert_eq!(member("[1]", "c"), Ok(None));
        assert_eq!(item(r#"[1, "x\"]", {}]"#, 1), Ok(Some(r#""x\"]""#)));
        assert_eq!(item("[1, 2]", -1), Ok(Some("2")));
        assert_eq!(item("[1, 2]", 2), Ok(None));
        for broken in ["", "{", "[1,]", "{\"a\"}", "tru", "1 2", "01", "\"a", "{\"a\":1,}", &"[".repeat(5_000)] {
            assert_eq!(valid(broken), Err(Invalid), "{broken}");
        }
        assert!(valid(r#" [1, 2.5e-3, "é", null, {"a": []}] "#).is_ok());
    }
}
