//! What worker and auditors say until they agree or don't: opening, hidden answers, shown answers.

use deepmarket_types::{
    AuditId, AuditState, CommitmentPlace, Disclosure, Finding, Hash, LeafProof, MachineId, PublicKey, RoundCommitment,
    RoundOutcome, blind,
};

use super::{Audit, Auditor, Disclosed, deadlines::auditor};
use crate::{Ledger, Rejection, change::Change};

impl Ledger {
    /// The audit exists and is in a state.
    pub(super) fn check_audit(&self, id: AuditId, state: AuditState) -> Result<&Audit, Rejection> {
        let audit = self.audits.get(&id).ok_or(Rejection::UnknownAudit(id))?;
        match audit.state == state {
            true => Ok(audit),
            false => Err(Rejection::AuditElsewhere { audit: id, state: audit.state }),
        }
    }

    /// The signer's machine counts among the audit's auditors.
    fn check_auditor<'a>(&self, audit: &'a Audit, signer: &PublicKey) -> Result<&'a Auditor, Rejection> {
        let machine = MachineId::from_key(signer);
        audit.counting().find(|auditor| auditor.machine == machine).ok_or(Rejection::NotAuditParty(audit.id))
    }

    /// `Disclose`: the audit exists and waits for it; the signer is the worker's machine; the commitment is in the receipt's tree at
    /// the drawn index; so is that of the last round, given exactly where it is another one; the last one's total of samples is the
    /// receipt's; the opened one's total is within the window, and covers its own samples.
    pub(crate) fn check_disclose(&self, signer: &PublicKey, disclosure: &Disclosure) -> Result<&Audit, Rejection> {
        let Disclosure { audit: id, commitment, proof, last, .. } = disclosure;
        let audit = self.check_audit(*id, AuditState::Disclosing)?;
        if MachineId::from_key(signer) != audit.machine {
            return Err(Rejection::NotAuditParty(*id));
        }
        let bad = |problem| Err(Rejection::BadOpening { audit: *id, problem });
        let window = &audit.window;
        let place =
            CommitmentPlace { chain: self.chain(), job: audit.job, lease: audit.lease, rank: self.leases[&audit.lease].rank };
        let leaves = window.committed.1;
        let is_proven = |commitment: &RoundCommitment, proof: &LeafProof, index: u64| {
            proof.root(&commitment.leaf(&place), index, leaves) == Some(window.commitments)
        };
        if !is_proven(commitment, proof, audit.index) {
            return bad("the commitment isn't in the receipt's tree at the drawn place");
        }
        let of_last = match (last, audit.index + 1 == leaves) {
            (None, true) => commitment,
            (Some((last, proof)), false) if is_proven(last, proof, leaves - 1) => last,
            (Some(_), false) => return bad("the last commitment isn't in the receipt's tree at the last place"),
            (None, false) => return bad("the last commitment is missing"),
            (Some(_), true) => return bad("the commitment is the last one itself"),
        };
        if of_last.total_samples != window.samples.1 {
            return bad("the last commitment's total of samples isn't the receipt's");
        }
        let (before, with) = window.samples;
        if !(before..=with).contains(&commitment.total_samples) {
            return bad("the commitment's total of samples isn't between those of the receipt before and of this one");
        }
        match commitment.samples > commitment.total_samples {
            true => bad("the commitment has more samples than its total"),
            false => Ok(audit),
        }
    }

    /// `Commit`: the audit exists; the signer is one of its auditors; it hasn't said what it found before.
    pub(crate) fn check_commit(&self, signer: &PublicKey, id: AuditId) -> Result<MachineId, Rejection> {
        let audit = self.audits.get(&id).ok_or(Rejection::UnknownAudit(id))?;
        let auditor = self.check_auditor(audit, signer)?;
        match (audit.is_closed(), auditor.works()) {
            (true, _) => Err(Rejection::AuditElsewhere { audit: id, state: audit.state }),
            (false, false) => Err(Rejection::AlreadySaid(id)),
            (false, true) => Ok(auditor.machine),
        }
    }

    /// `Reveal`: the audit exists and answers are shown; the signer is one of its auditors; it hasn't shown its answer before; the
    /// answer is the one that it hid.
    pub(crate) fn check_reveal(
        &self,
        signer: &PublicKey,
        id: AuditId,
        outcome: &RoundOutcome,
        salt: &Hash,
    ) -> Result<MachineId, Rejection> {
        let audit = self.check_audit(id, AuditState::Revealing)?;
        let auditor = self.check_auditor(audit, signer)?;
        let (Some(Finding::Equal { blinded } | Finding::Different { blinded }), false) = (auditor.finding, auditor.has_shown())
        else {
            return Err(Rejection::AlreadySaid(id));
        };
        match blind(id, signer, &outcome.answer(), salt) == blinded {
            true => Ok(auditor.machine),
            false => Err(Rejection::NotWhatWasHidden(id)),
        }
    }
}

impl Change<'_> {
    /// Takes the worker's opening. Now a machine is looked for.
    pub fn disclose(&mut self, signer: &PublicKey, disclosure: &Disclosure) -> Result<(), Rejection> {
        self.ledger.check_disclose(signer, disclosure)?;

        let Disclosure { audit: id, commitment, salt, evidence, .. } = *disclosure;
        self.audit(id, |audit| {
            audit.disclosed = Some(Disclosed { commitment, salt, evidence });
            audit.state = AuditState::Waiting;
        });
        Ok(())
    }

    /// Takes an auditor's hidden answer. One that contradicts the worker is checked by two more.
    pub fn commit(&mut self, signer: &PublicKey, id: AuditId, finding: Finding) -> Result<(), Rejection> {
        let machine = self.ledger.check_commit(signer, id)?;

        if finding == Finding::Unable {
            self.excuse(id, machine);
        } else {
            self.audit(id, |audit| {
                auditor(audit, machine).finding = Some(finding);
                if matches!(finding, Finding::Different { .. } | Finding::Unusable) {
                    audit.wanted = 3;
                }
            });
            self.free_auditor(id, machine);
        }
        self.advance(id);
        Ok(())
    }

    /// Takes an auditor's answer. One that said that it has the worker's, and has another one, lied, whatever is right: it didn't
    /// compute.
    pub fn reveal(&mut self, signer: &PublicKey, id: AuditId, outcome: &RoundOutcome, salt: &Hash) -> Result<(), Rejection> {
        let machine = self.ledger.check_reveal(signer, id, outcome, salt)?;

        let audit = &self.ledger.audits[&id];
        let said_equal = |auditor: &Auditor| auditor.machine == machine && matches!(auditor.finding, Some(Finding::Equal { .. }));
        let is_lie = audit.counting().any(said_equal) && !audit.is_committed(outcome);
        let job = audit.job;
        self.audit(id, |audit| {
            let auditor = auditor(audit, machine);
            (auditor.outcome, auditor.is_false) = (Some(*outcome), is_lie);
        });
        if is_lie {
            self.punish(machine, job, None, id);
        }
        self.advance(id);
        Ok(())
    }
}
