//! What can go wrong, said so that someone can act on it.

/// The result of everything here.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file that a checkpoint names is not there.
    #[error("{file} is missing{}", offer(.instead))]
    Missing {
        /// The file, with the store's address.
        file: String,
        /// The newest whole checkpoint that does without it, by name.
        instead: Option<String>,
    },
    /// A file is not what was written: torn, cut, flipped or exchanged.
    #[error("{file} is damaged: {what}{}", offer(.instead))]
    Corrupt {
        /// The file, with the store's address.
        file: String,
        /// What is wrong with it.
        what: String,
        /// The newest whole checkpoint that does without it, by name.
        instead: Option<String>,
    },
    /// A file was written by a later version of Highwater.
    #[error(
        "{file} has format {found}, and this version of highwater reads up to {supported}: use the version that wrote it, or a later one"
    )]
    Newer {
        /// The file, with the store's address.
        file: String,
        /// Its format's number.
        found: u64,
        /// The newest format that can be read here.
        supported: u64,
    },
    /// The address leads to something that is not a store.
    #[error("{place} is not a store of checkpoints: {what}")]
    NotAStore {
        /// The address.
        place: String,
        /// Why not, and what to do.
        what: String,
    },
    /// The address itself cannot be used.
    #[error("`{url}` is no address of a store: {what}")]
    Address {
        /// The address.
        url: String,
        /// Why not, and what to do.
        what: String,
    },
    /// A name that cannot be kept.
    #[error("{what}")]
    Name {
        /// Which name, and why not.
        what: String,
    },
    /// The job has no such checkpoint or savepoint.
    #[error("job {job} has no {wanted}; there is {there}")]
    Unknown {
        /// The job.
        job: String,
        /// What was asked for.
        wanted: String,
        /// What there is instead.
        there: String,
    },
    /// A savepoint of this name exists.
    #[error("job {job} has a savepoint `{name}` already: delete it first, or choose another name")]
    Taken {
        /// The job.
        job: String,
        /// The savepoint's name.
        name: String,
    },
    /// Another writer has taken the job over. This one may not write any more.
    #[error("{owner} has taken job {job} over: this process may not write its checkpoints any more, and should stop")]
    Fenced {
        /// The job.
        job: String,
        /// Who: host, process and since when.
        owner: String,
    },
    /// It is not known whether a checkpoint was written.
    #[error("{file} may or may not have been written ({what}): claim the job again, and go on from its newest checkpoint")]
    Uncertain {
        /// The manifest, with the store's address.
        file: String,
        /// What happened.
        what: String,
    },
    /// What was to be written cannot be.
    #[error("{what}")]
    Refused {
        /// What, and why not.
        what: String,
    },
    /// The disk, the network or the object store failed.
    #[error("{attempted} {file} failed: {what}")]
    Io {
        /// The file, with the store's address.
        file: String,
        /// What was attempted: "reading".
        attempted: &'static str,
        /// What the outside world said.
        what: String,
    },
}

fn offer(instead: &Option<String>) -> String {
    match instead {
        Some(name) => {
            format!("; the newest whole checkpoint before it is {name}: restore from it by name, and lose what came after")
        }
        None => "; there is no whole checkpoint before it".into(),
    }
}

impl StoreError {
    /// Whether the fault lies in one file, so that another checkpoint may be whole.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::Newer { .. })
    }

    /// Whether there is nothing of the name that was asked for.
    pub fn is_unknown(&self) -> bool {
        matches!(self, StoreError::Unknown { .. })
    }

    /// The same error with the checkpoint that could be used instead.
    pub(crate) fn offering(mut self, name: Option<String>) -> StoreError {
        if let StoreError::Missing { instead, .. } | StoreError::Corrupt { instead, .. } = &mut self {
            *instead = name;
        }
        self
    }

    pub(crate) fn corrupt(file: impl Into<String>, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { file: file.into(), what: what.into(), instead: None }
    }

    pub(crate) fn refused(what: impl Into<String>) -> StoreError {
        StoreError::Refused { what: what.into() }
    }
}
