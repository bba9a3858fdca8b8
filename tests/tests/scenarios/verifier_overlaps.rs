//! Proofs of overlaps that are whole in form and not what they seem: the page in a real browser and the command judge them alike.

use anyhow::{Context, Result, bail, ensure};
use tally_contracts::Canonical as _;
use tally_evidence::{Extra, MatchExtra, OverlapExtra};
use tally_merkle::TlogProof;

use crate::verifier_page::{Golden, on_page, page_says_of};

/// What a proof of an overlap may have in the place of its own, how both must judge it, and the change.
type OtherOverlap = (&'static str, &'static str, fn(&mut OverlapExtra));
const OTHER_OVERLAPS: [OtherOverlap; 8] = [
    ("all as it is", "verified", |_| {}),
    ("a confirmation left out", "contradiction", |e| {
        e.confirmed.pop();
    }),
    ("no confirmations", "contradiction", |e| e.confirmed.clear()),
    ("one twice", "contradiction", |e| {
        e.confirmed[2] = e.confirmed[0].clone();
    }),
    ("in another order", "contradiction", |e| {
        e.confirmed.swap(0, 1);
    }),
    ("in another place", "inclusion", |e| {
        e.confirmed[0].index += 1;
    }),
    ("in another block", "contradiction", |e| {
        e.confirmed[0].block = e.confirmed[1].block.clone();
    }),
    ("another value for the agreement", "state", |e| {
        e.agreement = e.overlap.clone();
    }),
];

#[test]
fn the_page_judges_other_overlaps_as_the_command_does() {
    let name = "the_page_judges_other_overlaps_as_the_command_does";
    on_page(name, |_, session| {
        let golden = Golden::read()?;
        let parts = |name: &str| -> Result<(TlogProof, OverlapExtra)> {
            let text: TlogProof = std::str::from_utf8(&Golden::proof(name)?)?.parse()?;
            match Extra::from_bytes(text.extra.as_deref().context("an extra")?)? {
                Extra::Overlap(extra) => Ok((text, *extra)),
                _ => bail!("{name} is of no overlap"),
            }
        };
        let (text, own) = parts("overlap")?;
        let (_, before) = parts("overlap-unconfirmed")?;
        let (_, other) = parts("overlap-failed")?;
        let mut cases: Vec<(&str, &str, Extra)> = OTHER_OVERLAPS
            .iter()
            .map(|(what, reason, change)| {
                let mut extra = own.clone();
                change(&mut extra);
                (*what, *reason, Extra::Overlap(Box::new(extra)))
            })
            .collect();
        let with = |overlap, confirmed| {
            Extra::Overlap(Box::new(OverlapExtra {
                overlap,
                confirmed,
                ..own.clone()
            }))
        };
        let as_match = MatchExtra {
            closed: own.closed.clone(),
            head: own.head.clone(),
            matched: own.overlap.clone(),
            agreement: own.agreement.clone(),
        };
        let confirmed = own.confirmed.clone();
        cases.extend([
            (
                "an older state",
                "state",
                with(before.overlap, before.confirmed),
            ),
            (
                "another session's state",
                "state",
                with(other.overlap, confirmed),
            ),
            ("a match", "contradiction", Extra::Match(Box::new(as_match))),
            ("a record", "verified", Extra::Record(own.closed.clone())),
        ]);
        for (what, reason, extra) in cases {
            let bent = TlogProof {
                extra: Some(extra.to_bytes()),
                ..text.clone()
            };
            let bent = bent.to_string().into_bytes();
            let expected = golden.judge(&golden.policy, &bent, None)?;
            let said = page_says_of(session, &golden.network, &golden.policy, &[bent])?;
            ensure!(
                said == [expected] && expected == reason,
                "{what}: the page says {said:?}, the command {expected}"
            );
        }
        Ok(())
    });
}
