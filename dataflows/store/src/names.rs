//! Names that people give, as parts of paths that every file system and object store can hold.
//!
//! Small letters, digits, `-`, `_` and `.` stand for themselves; every other byte is `=` and two hexadecimal digits. Capitals
//! too, because there are file systems to which `Orders` and `orders` are the same.

use crate::error::{Result, StoreError};

/// What file systems allow a part of a path to be, less what is added to it.
const BYTES_MAX: usize = 200;

/// The part of a path that stands for a name; `what` says whose, for errors.
///
/// Errors: no name, or one that is too long.
pub fn to_part(name: &str, what: &str) -> Result<String> {
    if name.is_empty() {
        return Err(StoreError::Name { what: format!("a {what} must have a name") });
    }
    let mut part = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => part.push(char::from(byte)),
            b'.' if index > 0 => part.push('.'),
            _ => part.push_str(&format!("={byte:02x}")),
        }
    }
    if part.len() > BYTES_MAX {
        return Err(StoreError::Name {
            what: format!(
                "the name of {what} `{name}` is too long: it takes {} bytes as a path, and {BYTES_MAX} are allowed",
                part.len()
            ),
        });
    }
    Ok(part)
}

/// The name that a part of a path stands for; `None` if it stands for none.
pub(crate) fn from_part(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    // One name, one part: what does not come back the same was not written here.
    (to_part(&name, "name").ok()? == part).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_part_and_comes_back() {
        for name in ["orders", "Orders", "a/b", "..", ".hidden", "v1.2", "größe", "a=b", "tab\tnul\0", "CON", "a b", "%2e"] {
            let part = to_part(name, "job").unwrap();
            assert!(part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.=".contains(&b)), "{part}");
            assert!(!part.starts_with('.'), "{part}");
            assert_eq!(from_part(&part).as_deref(), Some(name));
        }
        assert_eq!(to_part("Orders", "job").unwrap(), "=4frders");
    }

    #[test]
    fn what_is_no_name_is_said() {
        assert_eq!(to_part("", "job").unwrap_err().to_string(), "a job must have a name");
        assert!(to_part(&"x".repeat(201), "job").unwrap_err().to_string().contains("too long"));
        for part in ["=", "=4", "=zz", "=+1", "Orders", "=61", ".x", "=ff", ""] {
            assert_eq!(from_part(part), None, "{part}");
        }
    }
}
