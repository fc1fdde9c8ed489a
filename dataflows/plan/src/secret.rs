//! Which options are secrets, and texts without them.
//!
//! A job's text is kept in its checkpoints and shown where it is wrong. So a secret should not stand in it but be
//! [referred to](is_reference): `'${env:NAME}'`, `'${file:PATH}'`. Where one does, what is shown has stars in its place.

/// Words in the names of options whose values nobody else is to read.
const WORDS: &[&str] = &["password", "passphrase", "secret", "token", "jaas", "key.pem", "credential"];
/// Ends of names that have such a word and only say where something is.
const PLACES: &[&str] = &[".location", ".url", ".path", ".file", ".id"];

/// Whether the values of an option of this name are secrets.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // What datagen makes up for a column of such a name is none.
    !key.starts_with("fields.") && WORDS.iter().any(|word| key.contains(word)) && !PLACES.iter().any(|place| key.ends_with(place))
}

/// Whether a value says where it is to be looked up: `${env:NAME}`, `${file:PATH}`.
pub fn is_reference(value: &str) -> bool {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.starts_with("env:") || inner.starts_with("file:"))
}

/// A job's text with stars for the letters of secrets: the values of options that are, and passwords in addresses
/// (`http://user:password@host`).
pub fn masked(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = letters.clone();
    let mut at = 0;
    while at < letters.len() {
        let next = letters.get(at + 1);
        let end = match (letters[at], next) {
            ('-', Some('-')) => find(&letters, at, &['\n']),
            ('/', Some('*')) => find(&letters, at + 2, &['*', '/']) + 1,
            ('"', _) => find(&letters, at + 1, &['"']),
            ('\'', _) => {
                let mut end = find(&letters, at + 1, &['\'']);
                while letters.get(end + 1) == Some(&'\'') {
                    end = find(&letters, end + 2, &['\'']);
                }
                mask(&letters[..at], &mut out[at + 1..end]);
                end
            }
            _ => at,
        };
        at = end + 1;
    }
    out.into_iter().collect()
}

/// Where `what` begins from `from` on, or the end.
fn find(letters: &[char], from: usize, what: &[char]) -> usize {
    let from = from.min(letters.len());
    letters[from..].windows(what.len()).position(|window| window == what).map_or(letters.len(), |at| from + at)
}

/// Stars over a quoted text, or over what of it is a secret. `before`: what stands before its quote.
fn mask(before: &[char], quoted: &mut [char]) {
    let value: String = quoted.iter().collect();
    let before: String = before.iter().rev().take(200).collect();
    let key = before.trim_start().strip_prefix('=').map(|rest| rest.trim_start().trim_start_matches(['\'', '"']));
    let key: String = key.unwrap_or_default().chars().take_while(|c| c.is_alphanumeric() || "._-".contains(*c)).collect();
    if is_secret(&key.chars().rev().collect::<String>()) && !is_reference(&value) {
        quoted.fill('*');
    } else if let Some((start, end)) = password_in_address(quoted) {
        quoted[start..end].fill('*');
    }
}

fn password_in_address(quoted: &[char]) -> Option<(usize, usize)> {
    let start = find(quoted, 0, &[':', '/', '/']) + 3;
    let end = quoted.iter().rposition(|c| *c == '@').filter(|end| *end > start)?;
    let colon = find(&quoted[..end], start, &[':']);
    (colon + 1 < end).then_some((colon + 1, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in ["properties.sasl.password", "properties.ssl.key.pem", "schema_registry.token", "properties.SASL.JAAS.config"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["key", "key.format", "properties.ssl.key.location", "properties.sasl.oauthbearer.token.endpoint.url"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn what_is_shown_of_a_text_has_stars_for_secrets() {
        let masks = |text: &str, expected: &str| assert_eq!(masked(text), expected);
        masks("WITH (properties.sasl.password = 'a''b', topic = 't')", "WITH (properties.sasl.password = '****', topic = 't')");
        masks("('properties.sasl.password'='geheim')", "('properties.sasl.password'='******')");
        masks("-- don't\npassword\n  = 'abc' -- 'x'", "-- don't\npassword\n  = '***' -- 'x'");
        masks("/* it's */ x.token = 'ü' \"it's\" topic = 't'", "/* it's */ x.token = '*' \"it's\" topic = 't'");
        masks("schema_registry = 'http://u:pa@ss@h:1,http://h:2'", "schema_registry = 'http://u:*****@h:1,http://h:2'");
        masks("password = '${env:P}', key = 'a'", "password = '${env:P}', key = 'a'");
        masks("password = 'never", "password = '*****");
    }
}
