//! Policies (C2SP tlog-policy): which logs and which quorum of witnesses make a checkpoint good.
//!
//! Only one form is read: log lines, witness lines, group lines, then the quorum line; single spaces, no comments, no empty
//! lines. That is a subset of the C2SP text, so other tools read what this module writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::note::Note;
use crate::vkey::{KeyKind, Vkey, check_name, parse_decimal};

/// The largest policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;
/// The most logs, witnesses and groups together.
pub const MAX_POLICY_LINES: usize = 1024;
/// The quorum that needs no witness.
const NONE: &str = "none";
/// The group that [`Policy::two_thirds`] makes.
const VALIDATORS: &str = "validators";

/// How many members of a group must have cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// One of them.
    Any,
    /// Every one.
    All,
    /// At least this many; 1 to the number of members.
    AtLeast(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Log {
    key: Vkey,
    url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Witness {
    name: String,
    key: Vkey,
    url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    threshold: Threshold,
    members: Vec<String>,
}

impl Group {
    const fn needed(&self) -> usize {
        match self.threshold {
            Threshold::Any => 1,
            Threshold::All => self.members.len(),
            Threshold::AtLeast(k) => k,
        }
    }
}

/// A policy; what it accepts is decided by [`Policy::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: String,
}

/// A checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Origin, size and root.
    pub checkpoint: Checkpoint,
    /// The log keys that signed; at least one.
    pub logs: Vec<Vkey>,
    /// The witnesses that cosigned, by their name in the policy, and when (POSIX seconds).
    pub witnesses: Vec<(String, u64)>,
    /// Signature lines by keys that the policy does not name. Where a proof must have one form only, refuse any.
    pub unknown_signatures: usize,
}

impl Policy {
    /// The policy that accepts a checkpoint which any of `logs` signed and more than two thirds of `witnesses` cosigned.
    ///
    /// # Errors
    /// [`Error::Malformed`] for no log, no witness, a repeated key or name; [`Error::KeyKind`] for a key of the wrong type.
    pub fn two_thirds(logs: Vec<Vkey>, witnesses: Vec<(String, Vkey)>) -> Result<Self, Error> {
        if logs.is_empty() || witnesses.is_empty() {
            return Err(Error::malformed(
                "policy",
                "",
                "at least one log and one witness",
            ));
        }
        let mut builder = Builder::default();
        for key in logs {
            builder.log(key, None)?;
        }
        let members: Vec<String> = witnesses.iter().map(|(name, _)| name.clone()).collect();
        for (name, key) in witnesses {
            builder.witness(name, key, None)?;
        }
        let needed = more_than_two_thirds(members.len());
        builder.group(VALIDATORS.to_owned(), Threshold::AtLeast(needed), members)?;
        builder.quorum(VALIDATORS.to_owned())
    }

    /// Checks that this policy is just what [`Policy::two_thirds`] makes: every witness in one group, with the least number
    /// that is more than two thirds. A weaker policy would let a minority vouch for a split view.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn check_two_thirds(&self) -> Result<(), Error> {
        let logs = self.logs.iter().map(|l| l.key.clone()).collect();
        let witnesses = self
            .witnesses
            .iter()
            .map(|w| (w.name.clone(), w.key.clone()))
            .collect();
        let mut expected = Self::two_thirds(logs, witnesses)?;
        for (to, from) in expected.logs.iter_mut().zip(&self.logs) {
            to.url.clone_from(&from.url);
        }
        for (to, from) in expected.witnesses.iter_mut().zip(&self.witnesses) {
            to.url.clone_from(&from.url);
        }
        if expected == *self {
            Ok(())
        } else {
            Err(Error::malformed(
                "policy",
                format!("quorum {}", self.quorum),
                "a quorum of more than two thirds of all witnesses",
            ))
        }
    }

    /// The keys that may sign as the log.
    pub fn logs(&self) -> impl Iterator<Item = &Vkey> {
        self.logs.iter().map(|l| &l.key)
    }

    /// The witnesses, by their name in the policy.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &Vkey)> {
        self.witnesses.iter().map(|w| (w.name.as_str(), &w.key))
    }

    /// How many witnesses the quorum needs if it is a group, or 1 for a single witness; 0 for none. Groups within a group count
    /// as one each.
    #[must_use]
    pub fn needed(&self) -> usize {
        if self.quorum == NONE {
            return 0;
        }
        self.groups
            .iter()
            .find(|g| g.name == self.quorum)
            .map_or(1, Group::needed)
    }

    /// Checks a signed checkpoint: at least one log of this policy signed it under its own name, and the quorum cosigned.
    ///
    /// # Errors
    /// What [`Note::verify`] and the checkpoint's text give; [`Error::Unsigned`] without a log's signature, [`Error::Origin`],
    /// [`Error::Quorum`].
    pub fn verify(&self, note: &Note) -> Result<Verified, Error> {
        let keys: Vec<Vkey> = self
            .logs()
            .chain(self.witnesses.iter().map(|w| &w.key))
            .cloned()
            .collect();
        let found = note.verify(&keys)?;
        let checkpoint: Checkpoint = note.text().parse()?;
        let mut logs = Vec::new();
        let mut witnesses = Vec::new();
        for signature in &found.signatures {
            if let Some(log) = self.logs.get(signature.key) {
                if log.key.name() != checkpoint.origin {
                    return Err(Error::Origin {
                        expected: log.key.name().to_owned(),
                        found: checkpoint.origin,
                    });
                }
                logs.push(log.key.clone());
            } else if let Some(witness) = self.witnesses.get(signature.key - self.logs.len()) {
                witnesses.push((witness.name.clone(), signature.time_s.unwrap_or(0)));
            }
        }
        if logs.is_empty() {
            return Err(Error::Unsigned {
                known: self.logs.len(),
            });
        }
        if !self.is_quorum(&witnesses) {
            return Err(Error::Quorum {
                quorum: self.quorum.clone(),
                found: witnesses.len(),
            });
        }
        Ok(Verified {
            checkpoint,
            logs,
            witnesses,
            unknown_signatures: found.unknown,
        })
    }

    fn is_quorum(&self, witnesses: &[(String, u64)]) -> bool {
        if self.quorum == NONE {
            return true;
        }
        let mut met: BTreeSet<&str> = witnesses.iter().map(|(name, _)| name.as_str()).collect();
        // A group only names what stands before it, so one pass settles all.
        for group in &self.groups {
            let count = group
                .members
                .iter()
                .filter(|m| met.contains(m.as_str()))
                .count();
            if count >= group.needed() {
                met.insert(&group.name);
            }
        }
        met.contains(self.quorum.as_str())
    }
}

/// The least number that is more than two thirds of `n`.
const fn more_than_two_thirds(n: usize) -> usize {
    2 * n / 3 + 1
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map_or_else(String::new, |u| format!(" {u}"));
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(
                f,
                "witness {} {}{}",
                witness.name,
                witness.key,
                url(&witness.url)
            )?;
        }
        for group in &self.groups {
            write!(f, "group {} ", group.name)?;
            match group.threshold {
                Threshold::Any => f.write_str("any")?,
                Threshold::All => f.write_str("all")?,
                Threshold::AtLeast(k) => write!(f, "{k}")?,
            }
            group.members.iter().try_for_each(|m| write!(f, " {m}"))?;
            writeln!(f)?;
        }
        writeln!(f, "quorum {}", self.quorum)
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(Error::TooLarge {
                what: "policy",
                found: text.len(),
                max: MAX_POLICY_BYTES,
            });
        }
        let lines = text
            .strip_suffix('\n')
            .ok_or_else(|| Error::malformed("policy", text, "lines that end in LF"))?;
        let mut builder = Builder::default();
        let mut lines = lines.split('\n').peekable();
        while let Some(line) = lines.next() {
            let bad = |expected| Error::malformed("policy line", line, expected);
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["log", key, url @ ..] if url.len() <= 1 => {
                    builder.log(key.parse()?, url.first().copied())?;
                }
                ["witness", name, key, url @ ..] if url.len() <= 1 => {
                    builder.witness((*name).to_owned(), key.parse()?, url.first().copied())?;
                }
                ["group", name, threshold, members @ ..] => {
                    let threshold = match *threshold {
                        "any" => Threshold::Any,
                        "all" => Threshold::All,
                        k => Threshold::AtLeast(
                            usize::try_from(parse_decimal("group threshold", k)?)
                                .map_err(|_| bad("a threshold of at most the members"))?,
                        ),
                    };
                    let members = members.iter().map(|m| (*m).to_owned()).collect();
                    builder.group((*name).to_owned(), threshold, members)?;
                }
                ["quorum", name] if lines.peek().is_none() => {
                    return builder.quorum((*name).to_owned());
                }
                _ => {
                    return Err(bad(
                        "log, witness, group, and last one quorum line, with single spaces",
                    ));
                }
            }
        }
        Err(Error::malformed("policy", text, "a quorum line at the end"))
    }
}

/// Takes the lines in their order and refuses what the format does.
#[derive(Debug, Default)]
struct Builder {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    /// Names defined, and whether a group has used them.
    names: BTreeMap<String, bool>,
}

impl Builder {
    fn log(&mut self, key: Vkey, url: Option<&str>) -> Result<(), Error> {
        check_kind(&key, &[KeyKind::Ed25519], "0x01 for a log")?;
        let late = !self.witnesses.is_empty() || !self.groups.is_empty();
        if late
            || self
                .logs
                .iter()
                .any(|l| l.key.key() == key.key() || same_id(&l.key, &key))
        {
            return Err(Error::malformed(
                "policy log",
                key.name(),
                "log lines first, each with its own key",
            ));
        }
        let url = check_url(url)?;
        self.logs.push(Log { key, url });
        self.check_count()
    }

    fn witness(&mut self, name: String, key: Vkey, url: Option<&str>) -> Result<(), Error> {
        check_kind(
            &key,
            &[KeyKind::Cosignature, KeyKind::MlDsa44],
            "0x04 for a witness",
        )?;
        if !self.groups.is_empty()
            || self
                .witnesses
                .iter()
                .any(|w| w.key.key() == key.key() || same_id(&w.key, &key))
        {
            return Err(Error::malformed(
                "policy witness",
                name,
                "witness lines before groups, each with its own key",
            ));
        }
        self.define(&name)?;
        let url = check_url(url)?;
        self.witnesses.push(Witness { name, key, url });
        self.check_count()
    }

    fn group(
        &mut self,
        name: String,
        threshold: Threshold,
        members: Vec<String>,
    ) -> Result<(), Error> {
        for member in &members {
            match self.names.get_mut(member) {
                Some(used) if !*used => *used = true,
                _ => {
                    return Err(Error::malformed(
                        "policy group member",
                        member,
                        "a name defined before, in no other group",
                    ));
                }
            }
        }
        let group = Group {
            name,
            threshold,
            members,
        };
        if group.needed() == 0 || group.needed() > group.members.len() {
            return Err(Error::malformed(
                "policy group",
                group.name,
                "a threshold of 1 to the number of members",
            ));
        }
        self.define(&group.name)?;
        self.groups.push(group);
        self.check_count()
    }

    fn quorum(self, quorum: String) -> Result<Policy, Error> {
        if quorum != NONE && !self.names.contains_key(&quorum) {
            return Err(Error::malformed(
                "policy quorum",
                quorum,
                "none, or a name defined before",
            ));
        }
        Ok(Policy {
            logs: self.logs,
            witnesses: self.witnesses,
            groups: self.groups,
            quorum,
        })
    }

    fn define(&mut self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        if name == NONE || self.names.insert(name.to_owned(), false).is_some() {
            return Err(Error::malformed(
                "policy name",
                name,
                "a name not used before",
            ));
        }
        Ok(())
    }

    fn check_count(&self) -> Result<(), Error> {
        let found = self.logs.len() + self.witnesses.len() + self.groups.len();
        if found > MAX_POLICY_LINES {
            return Err(Error::TooLarge {
                what: "policy",
                found,
                max: MAX_POLICY_LINES,
            });
        }
        Ok(())
    }
}

/// Two keys that a signature line could not tell apart.
fn same_id(a: &Vkey, b: &Vkey) -> bool {
    a.name() == b.name() && a.id() == b.id()
}

fn check_kind(key: &Vkey, kinds: &[KeyKind], expected: &'static str) -> Result<(), Error> {
    if kinds.contains(&key.kind()) {
        Ok(())
    } else {
        Err(Error::KeyKind {
            name: key.name().to_owned(),
            kind: key.kind().byte(),
            expected,
        })
    }
}

fn check_url(url: Option<&str>) -> Result<Option<String>, Error> {
    match url {
        None => Ok(None),
        Some(u) if !u.is_empty() && u.len() <= 1024 && u.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(u.to_owned()))
        }
        Some(u) => Err(Error::malformed("policy URL", u, "visible ASCII")),
    }
}
