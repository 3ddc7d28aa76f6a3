//! What this machine answered as an auditor, on disk: after a restart it must show the very answer that it gave, and it never gives
//! two.

use std::{fs, io, path::PathBuf};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AuditId, ChainId, Finding, Hash, RoundOutcome, SecretKey, decode, encode};

use crate::WorkerError;

/// An answer that was or will be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Answer {
    pub finding: Finding,
    /// What is shown later; none where there is nothing to show.
    pub outcome: Option<RoundOutcome>,
}

/// The folder of answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    folder: PathBuf,
}

impl Answers {
    pub fn open(folder: PathBuf) -> Result<Answers, WorkerError> {
        fs::create_dir_all(&folder).map_err(WorkerError::home(&folder))?;
        Ok(Answers { folder })
    }

    fn path(&self, audit: AuditId) -> PathBuf {
        self.folder.join(format!("{audit}.answer"))
    }

    /// The answer to an audit, also of an earlier life of the agent. One that can't be read is an error: another may have been
    /// given.
    pub fn of(&self, audit: AuditId) -> io::Result<Option<Answer>> {
        match fs::read(self.path(audit)) {
            Ok(bytes) => decode(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Notes an answer before it is given.
    pub fn note(&self, audit: AuditId, answer: &Answer) -> io::Result<()> {
        let path = self.path(audit);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, encode(answer))?;
        fs::rename(unfinished, path)
    }
}

/// The salt that hides an answer. It follows from the machine's secret key, so that it needn't be stored to be shown.
pub(crate) fn answer_salt(key: &SecretKey, chain: &ChainId, audit: AuditId) -> Hash {
    Hash::tagged("deepmarket/v1/audit-salt", &[&key.seed(), &chain.0, &audit.0.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_again_and_one_that_was_damaged_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::open(folder.path().join("answers")).unwrap();
        assert_eq!(answers.of(AuditId(3)).unwrap(), None);
        let answer = Answer { finding: Finding::Equal { blinded: Hash::of(b"b") }, outcome: None };
        answers.note(AuditId(3), &answer).unwrap();
        assert_eq!(Answers::open(folder.path().join("answers")).unwrap().of(AuditId(3)).unwrap(), Some(answer));
        fs::write(answers.path(AuditId(3)), [1]).unwrap();
        assert!(answers.of(AuditId(3)).is_err());
        let key = SecretKey::from_seed([1; 32]);
        assert_ne!(answer_salt(&key, &Hash::default(), AuditId(1)), answer_salt(&key, &Hash::default(), AuditId(2)));
    }
}
