//! When files are folded into one.
//!
//! Two rules, so that restoring reads little more than the state and no byte is written too often:
//!
//! - **All of it**, when the increments since the base are more than [`Policy::growth`] times as large as the base.
//! - **The newest ones**, when [`Policy::files`] of similar size stand at the end: they become one increment of the next size. A job
//!   with a large base and a small increment every second would otherwise have thousands of files before the first rule holds.
//!   Sizes are classes of powers of `files`, so that a row is folded once per class: the number of files and the bytes written per
//!   byte both grow as the logarithm of the state.

use crate::manifest::FileRef;

/// Increments up to this size are of the lowest class.
const CLASS_BYTES: u64 = 64 << 10;

/// When files are folded into one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How many increments there must be before anything is folded. At least 2.
    pub files: usize,
    /// How many times the base's bytes the increments may have.
    pub growth: f64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { files: 8, growth: 2.0 }
    }
}

/// Which files of a manifest are folded into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of them: the result is a base.
    All,
    /// All but the first so many: the result is an increment.
    After(usize),
}

impl Policy {
    /// What should be folded now, if anything; `files` are a manifest's.
    pub fn due(&self, files: &[FileRef]) -> Option<Span> {
        let least = self.files.max(2);
        let bases = usize::from(files.first().is_some_and(|file| file.base));
        let increments = &files[bases..];
        if increments.len() < least {
            return None;
        }
        let base_bytes: u64 = files[..bases].iter().map(|file| file.bytes).sum();
        let bytes: u64 = increments.iter().map(|file| file.bytes).sum();
        if bytes as f64 > base_bytes as f64 * self.growth {
            return Some(Span::All);
        }
        let class = |file: &FileRef| (file.bytes.max(CLASS_BYTES) / CLASS_BYTES).ilog(least as u64);
        let highest = increments.iter().map(class).max()?;
        // The lowest class of which enough files stand at the end, with what is lower between them.
        (0..=highest).find_map(|limit| {
            let end: Vec<u32> = increments.iter().rev().map(class).take_while(|class| *class <= limit).collect();
            let count = end.iter().filter(|class| **class == limit).count();
            (count >= least).then(|| Span::After(files.len() - end.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(base: Option<u64>, increments: &[u64]) -> Vec<FileRef> {
        let file = |bytes, base| {
            let (path, checksum) = (String::new(), String::new());
            FileRef { path, bytes, raw_bytes: bytes, sections: 1, rows: 1, checksum, base, epoch: 0 }
        };
        base.map(|bytes| file(bytes, true)).into_iter().chain(increments.iter().map(|bytes| file(*bytes, false))).collect()
    }

    #[test]
    fn all_is_folded_when_increments_outgrow_the_base() {
        let policy = Policy { files: 4, growth: 2.0 };
        assert_eq!(policy.due(&files(Some(100), &[51, 50, 50])), None, "too few files");
        assert_eq!(policy.due(&files(Some(100), &[51, 50, 50, 50])), Some(Span::All));
        assert_eq!(policy.due(&files(None, &[1, 1, 1, 1])), Some(Span::All), "without a base");
        assert_eq!(policy.due(&[]), None);
    }

    #[test]
    fn small_increments_become_a_larger_one_long_before() {
        let policy = Policy { files: 4, growth: 2.0 };
        let (base, kib) = (Some(1 << 30), 1 << 10);
        assert_eq!(policy.due(&files(base, &[kib; 3])), None);
        assert_eq!(policy.due(&files(base, &[kib; 4])), Some(Span::After(1)));
        // A larger one in front is of a higher class, and stays until there are enough of it.
        assert_eq!(policy.due(&files(base, &[300 * kib, kib, kib, kib])), None);
        assert_eq!(policy.due(&files(base, &[300 * kib, kib, kib, kib, kib])), Some(Span::After(2)));
        assert_eq!(policy.due(&files(base, &[300 * kib, 300 * kib, 300 * kib, 270 * kib])), Some(Span::After(1)));
    }

    #[test]
    fn files_and_bytes_written_grow_as_a_logarithm() {
        let policy = Policy::default();
        let mut state = files(Some(4 << 30), &[]);
        let (mut written, mut most) = (0, 0);
        for _ in 0..10_000 {
            state.extend(files(None, &[100 << 10]));
            if let Some(span) = policy.due(&state) {
                let Span::After(from) = span else { panic!("the base is larger than all increments") };
                let folded: u64 = state.drain(from..).map(|file| file.bytes).sum();
                written += folded;
                state.extend(files(None, &[folded]));
            }
            most = most.max(state.len());
        }
        let given = 10_000 * (100 << 10);
        assert!(most <= 40, "{most} files at once");
        assert!(written <= 5 * given, "{written} bytes were written to fold {given}");
    }
}
