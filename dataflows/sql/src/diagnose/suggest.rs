//! "Did you mean": the known name nearest to an unknown one.

/// The candidate nearest to `name`, if one is near.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(wanted.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A remedy for an unknown name: the nearest known one, and the others if they are few.
pub(crate) fn did_you_mean(name: &str, what: &str, candidates: &[String]) -> Option<String> {
    if candidates.is_empty() {
        return None;
    }
    let list = if candidates.len() <= 30 { candidates.join(", ") } else { format!("{}, ...", candidates[..30].join(", ")) };
    Some(match closest(name, candidates.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'? {what}: {list}"),
        None => format!("{what}: {list}"),
    })
}

/// Edits between two words (insertions, deletions, substitutions, swaps of neighbours).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(closest("pric", ["auction", "price"]), Some("price"));
        assert_eq!(closest("bdi", ["bid", "auction"]), Some("bid"));
        assert_eq!(closest("zzz", ["bid", "auction"]), None);
    }
}
