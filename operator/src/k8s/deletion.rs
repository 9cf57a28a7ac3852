//! Jobs that delete files: how far they are.

use crate::deployment::children::JobSeen;
use crate::deployment::observe::Ended;

/// How far such a Job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// There is none.
    #[default]
    None,
    Running,
    Done,
    /// Why.
    Failed(String),
}

impl Deletion {
    /// `ended`: how the Job's pods did.
    pub fn of(job: &JobSeen, mut ended: impl Iterator<Item = Ended>) -> Self {
        match &job.failed {
            _ if job.complete => Self::Done,
            None => Self::Running,
            Some((_, message)) => {
                let said = ended.find(|e| !e.message.is_empty()).map(|e| e.message);
                Self::Failed(said.or_else(|| message.clone()).unwrap_or_else(|| "no reason given".into()))
            }
        }
    }
}
