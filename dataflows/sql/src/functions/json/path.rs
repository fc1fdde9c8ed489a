//! SQL/JSON paths: `$.a.b[0]`, `$["key"]`, `lax` or `strict` in front.

use super::scan::{self, Invalid};

/// A step into a value.
#[derive(Debug, PartialEq)]
enum Step {
    Member(String),
    Item(i64),
}

/// A path, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// `None` for what is no path, or one with wildcards or filters.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let text = text.trim();
        let text = text.strip_prefix("lax").or_else(|| text.strip_prefix("strict")).unwrap_or(text).trim_start();
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(name) = rest.strip_prefix('.') {
                if let Some(quoted) = name.strip_prefix('"') {
                    let end = quoted.find('"')?;
                    steps.push(Step::Member(quoted[..end].to_string()));
                    rest = &quoted[end + 1..];
                    continue;
                }
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let name_text = name[..end].trim();
                if name_text.is_empty() || name_text.contains(['*', '?', '(', '@']) {
                    return None;
                }
                steps.push(Step::Member(name_text.to_string()));
                rest = &name[end..];
                continue;
            }
            let inner = rest.strip_prefix('[')?;
            let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
            let end = match quote {
                Some(quote) => inner[1..].find(quote)? + 2,
                None => inner.find(']')?,
            };
            let step = inner[..end].trim();
            steps.push(match quote {
                Some(_) => Step::Member(step[1..step.len() - 1].to_string()),
                None => Step::Item(step.parse().ok()?),
            });
            rest = inner[end..].trim_start().strip_prefix(']')?;
        }
        Some(Path(steps))
    }

    /// `{a,b,0}`: names, and numbers where an array stands.
    pub(super) fn of_names(text: &str) -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        if inner.trim().is_empty() {
            return Some(Vec::new());
        }
        Some(inner.split(',').map(|name| name.trim().trim_matches('"').to_string()).collect())
    }

    /// What stands at the path, if something does.
    pub(super) fn find<'a>(&self, text: &'a str) -> Result<Option<&'a str>, Invalid> {
        let mut value = scan::valid(text)?;
        for step in &self.0 {
            let found = match step {
                Step::Member(name) => scan::member(value, name)?,
                Step::Item(index) if *index < 0 => None,
                // A value that is no array is one of itself.
                Step::Item(0) if !value.starts_with('[') => Some(value),
                Step::Item(index) => scan::item(value, *index)?,
            };
            match found {
                Some(found) => value = found,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

/// A member by its name, or an item by its number.
pub(super) fn step<'a>(value: &'a str, name: &str) -> Result<Option<&'a str>, Invalid> {
    if value.starts_with('[') {
        return match name.parse() {
            Ok(index) => scan::item(value, index),
            Err(_) => Ok(None),
        };
    }
    scan::member(value, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let json = r#"{"a": {"b": [10, 20]}, "k.l": 1}"#;
        let find = |path: &str| Path::parse(path).map(|path| path.find(json));
        assert_eq!(find("$.a.b[1]"), Some(Ok(Some("20"))));
        assert_eq!(find("lax $.a.b[7]"), Some(Ok(None)));
        assert_eq!(find("$['k.l']"), Some(Ok(Some("1"))));
        assert_eq!(find("$.\"k.l\""), Some(Ok(Some("1"))));
        assert_eq!(find("$.*"), None);
        assert_eq!(find("a"), None);
    }
}
