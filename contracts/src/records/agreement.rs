//! Agreements: what may be asked of whose data, how, and how much.

use std::fmt;
use std::str::FromStr;

use super::product::non_empty;
use super::{BODY_VERSION, HelperTerms, JoinSumTerms, SumNoise};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::{AgreementId, MemberId};

/// The most parties of an agreement.
pub const MAX_PARTIES: usize = 8;
/// Longest purpose, in bytes.
pub const MAX_PURPOSE: usize = 256;
/// The delta that is certainty, in the ledger's unit of 2^-60.
pub const DELTA_ONE: u64 = 1 << 60;
/// The largest bound of a truncated noise.
pub const MAX_NOISE_BOUND: u32 = 1 << 24;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// All of them, ascending by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number in the ledger.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// By its number.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// By its word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Canonical for $name {
            fn write(&self, w: &mut Writer) {
                w.u16(self.code());
            }

            fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
                let code = r.u16($what)?;
                Self::from_code(code).ok_or(CodecError::Invalid { what: $what, found: code.into() })
            }
        }
    };
}

codes! {
    /// What a match computes. Codes are kept for every computation of the design; [`Computation::suites`] says which of them
    /// these rules allow.
    Computation, "computation" {
        /// The intersection itself, to the side that asked.
        List = 1 "list",
        /// How many are in both.
        Cardinality = 2 "cardinality",
        /// Sum of values over the matched.
        Sum = 3 "sum",
        /// Sums by group.
        GroupBy = 4 "group_by",
        /// Attributed value by campaign.
        Attribution = 5 "attribution",
        /// Histogram of exposures.
        Frequency = 6 "frequency",
        /// Stage sizes and flows.
        Funnel = 7 "funnel",
        /// Test against holdout.
        Lift = 8 "lift",
        /// How many people three or more parties have in common.
        OverlapN = 9 "overlap_n",
        /// Labels of the matched.
        LabelCounts = 10 "label_counts",
        /// Sums by label over a join.
        JoinSum = 11 "join_sum",
    }
}

codes! {
    /// The protocol that computes it.
    Suite, "suite" {
        /// Diffie-Hellman over ristretto255.
        DhRistrettoV1 = 1 "dh-ristretto-v1",
        /// Oblivious key-value store and vector correlation: a list alone, since its receiver learns which rows matched.
        VoleRr22V1 = 2 "vole-rr22-v1",
        /// The same with checks, for parties that may deviate from the protocol.
        VoleRr22MaliciousV1 = 3 "vole-rr22-malicious-v1",
        /// Reserved.
        CircuitV1 = 4 "circuit-v1",
        /// Keyed pseudonyms, counted by a helper that is no party.
        HelperPrfV1 = 5 "helper-prf-v1",
    }
}

impl Computation {
    /// The suites that these rules allow for it; none for a computation that they do not have yet.
    #[must_use]
    pub const fn suites(self) -> &'static [Suite] {
        match self {
            Self::List => &[
                Suite::DhRistrettoV1,
                Suite::VoleRr22V1,
                Suite::VoleRr22MaliciousV1,
            ],
            Self::Cardinality | Self::JoinSum => &[Suite::DhRistrettoV1],
            Self::OverlapN => &[Suite::HelperPrfV1],
            Self::Sum
            | Self::GroupBy
            | Self::Attribution
            | Self::Frequency
            | Self::Funnel
            | Self::Lift
            | Self::LabelCounts => &[],
        }
    }

    /// Whether its answer carries noise and is charged to the budget. A list is not: it is approved by name, and it marks the
    /// data as disclosed.
    #[must_use]
    pub const fn is_noised(self) -> bool {
        !matches!(self, Self::List)
    }
}

codes! {
    /// The kind of ID by which people are matched.
    IdType, "ID type" {
        /// E-mail address.
        Email = 1 "email",
        /// Phone number.
        Phone = 2 "phone",
        /// Apple's advertising ID.
        Idfa = 3 "idfa",
        /// Google's advertising ID.
        Gaid = 4 "gaid",
        /// Open anonymous device ID.
        Oaid = 5 "oaid",
        /// Open ID of a platform.
        OpenId = 6 "open_id",
    }
}

codes! {
    /// How an ID is normalised before it is hashed.
    Form, "ID form" {
        /// Trimmed, lower case; for gmail.com dots and the +suffix dropped.
        EmailUid2 = 0x01 "uid2",
        /// As uid2, for googlemail.com too, inner spaces removed.
        EmailGoogle = 0x02 "google",
        /// Trimmed, lower case.
        EmailPlain = 0x03 "plain",
        /// E.164 with `+`.
        PhoneE164 = 0x11 "e164",
        /// E.164 without `+`.
        PhoneDigits = 0x12 "digits",
        /// Eleven national digits of a Chinese mobile number.
        PhoneCn11 = 0x13 "cn11",
        /// Upper-case UUID.
        Idfa = 0x21 "idfa",
        /// Lower-case UUID.
        Gaid = 0x31 "gaid",
        /// Opaque.
        Oaid = 0x41 "oaid",
        /// Opaque.
        OpenId = 0x51 "open_id",
    }
}

codes! {
    /// Whether IDs came already hashed, and how.
    Prehash, "prehash" {
        /// They did not.
        None = 0 "none",
        /// MD5.
        Md5 = 1 "md5",
        /// SHA-1.
        Sha1 = 2 "sha1",
        /// SHA-256.
        Sha256 = 3 "sha256",
    }
}

impl Form {
    /// The ID type that it is a form of.
    #[must_use]
    pub const fn id_type(self) -> IdType {
        match self {
            Self::EmailUid2 | Self::EmailGoogle | Self::EmailPlain => IdType::Email,
            Self::PhoneE164 | Self::PhoneDigits | Self::PhoneCn11 => IdType::Phone,
            Self::Idfa => IdType::Idfa,
            Self::Gaid => IdType::Gaid,
            Self::Oaid => IdType::Oaid,
            Self::OpenId => IdType::OpenId,
        }
    }
}

/// One ID type in one form: never matched across profiles. Two u16 in bytes: ID type, then form + 256 * prehash. As text
/// `e164`, or `prehashed:sha256:e164`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// The form.
    pub form: Form,
    /// The hash that the IDs came under.
    pub prehash: Prehash,
}

impl Profile {
    /// IDs in the clear at their owner, in this form.
    #[must_use]
    pub const fn plain(form: Form) -> Self {
        Self {
            form,
            prehash: Prehash::None,
        }
    }

    /// The ID type.
    #[must_use]
    pub const fn id_type(self) -> IdType {
        self.form.id_type()
    }

    /// The number in the ledger: form + 256 * prehash.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.form.code() | self.prehash.code() << 8
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prehash {
            Prehash::None => f.write_str(self.form.name()),
            Prehash::Md5 | Prehash::Sha1 | Prehash::Sha256 => {
                write!(f, "prehashed:{}:{}", self.prehash, self.form)
            }
        }
    }
}

/// Text that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not an ID profile; expected one like e164 or prehashed:sha256:e164")]
pub struct ParseProfileError {
    /// The text.
    pub found: String,
}

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        let parsed = match text.strip_prefix("prehashed:") {
            None => Form::parse(text).map(Self::plain),
            Some(rest) => rest.split_once(':').and_then(|(hash, form)| {
                let prehash = Prehash::parse(hash).filter(|h| *h != Prehash::None)?;
                Some(Self {
                    form: Form::parse(form)?,
                    prehash,
                })
            }),
        };
        parsed.ok_or_else(|| ParseProfileError {
            found: text.chars().take(48).collect(),
        })
    }
}

impl Canonical for Profile {
    fn write(&self, w: &mut Writer) {
        w.u16(self.id_type().code()).u16(self.code());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let id_type = IdType::read(r)?;
        let code = r.u16("profile")?;
        let profile = Form::from_code(code & 0xff)
            .zip(Prehash::from_code(code >> 8))
            .map(|(form, prehash)| Self { form, prehash })
            .filter(|p| p.id_type() == id_type);
        profile.ok_or(CodecError::Invalid {
            what: "profile",
            found: code.into(),
        })
    }
}

/// The noise on every counted answer. One byte 0; or 1, `micro_eps` u64, `delta` u64, `bound` u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// None: exact answers, in test networks alone.
    None,
    /// Discrete Laplace, truncated to [-bound, bound], by both sides.
    Laplace {
        /// Epsilon in millionths; 1 to 100,000,000.
        micro_eps: u64,
        /// Delta of the truncation in units of 2^-60, rounded up; 1 to 2^60 - 1.
        delta: u64,
        /// B: 1 to 2^24.
        bound: u32,
    },
}

impl Noise {
    /// What one noised answer costs each owner: (micro-rho, delta). Truncated Laplace is delta-approximate
    /// (eps^2/2)-zCDP; micro-rho = eps^2/2 in millionths, rounded up.
    #[must_use]
    pub fn charge(&self) -> BudgetCap {
        match *self {
            Self::None => BudgetCap::default(),
            Self::Laplace {
                micro_eps, delta, ..
            } => {
                let rho = (u128::from(micro_eps) * u128::from(micro_eps)).div_ceil(2_000_000);
                BudgetCap {
                    micro_rho: u64::try_from(rho).unwrap_or(u64::MAX),
                    delta,
                }
            }
        }
    }
}

impl Canonical for Noise {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::None => w.u8(0),
            Self::Laplace {
                micro_eps,
                delta,
                bound,
            } => w.u8(1).u64(*micro_eps).u64(*delta).u32(*bound),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("noise")? {
            0 => Ok(Self::None),
            1 => {
                let ranged = |what, found: u64, max| {
                    if (1..=max).contains(&found) {
                        Ok(found)
                    } else {
                        Err(CodecError::Invalid { what, found })
                    }
                };
                let micro_eps = ranged("epsilon", r.u64("epsilon")?, 100_000_000)?;
                let delta = ranged("delta", r.u64("delta")?, DELTA_ONE - 1)?;
                let bound = r.u32("noise bound")?;
                ranged("noise bound", bound.into(), MAX_NOISE_BOUND.into())?;
                Ok(Self::Laplace {
                    micro_eps,
                    delta,
                    bound,
                })
            }
            found => Err(CodecError::Invalid {
                what: "noise",
                found: found.into(),
            }),
        }
    }
}

/// An amount of privacy budget, or a cap on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetCap {
    /// zCDP rho in millionths.
    pub micro_rho: u64,
    /// Delta in units of 2^-60.
    pub delta: u64,
}

impl Canonical for BudgetCap {
    fn write(&self, w: &mut Writer) {
        w.u64(self.micro_rho).u64(self.delta);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            micro_rho: r.u64("micro-rho")?,
            delta: r.u64("delta")?,
        })
    }
}

/// Kind 20: proposes an agreement; its ID is this record's ID. Signed by an administrator of the proposer, a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposeAgreement {
    /// 2 to 8 members, ascending, the proposer among them.
    pub parties: Vec<MemberId>,
    /// What the answers are for; 1 to 256 bytes.
    pub purpose: String,
    /// What may be computed, ascending, at least one.
    pub computations: Vec<Computation>,
    /// By which protocol.
    pub suite: Suite,
    /// By which IDs.
    pub profile: Profile,
    /// Smallest set that may be brought, at least 1.
    pub min_set_size: u64,
    /// Largest set that may be brought.
    pub max_set_size: u64,
    /// Answers below are given as "fewer than this", after noise.
    pub min_result: u64,
    /// Noise on counted answers.
    pub noise: Noise,
    /// The most that an owner may have spent, over all analysts, in one epoch once a match of this agreement is charged.
    pub epoch_cap: BudgetCap,
    /// The most that an owner may have spent for one analyst over all epochs once a match of this agreement is charged.
    pub lifetime_cap: BudgetCap,
    /// The most audiences of one owner that matches of this agreement use in one epoch, at least 1.
    pub max_audiences: u32,
    /// The most matches, at least 1.
    pub max_matches: u32,
    /// End of the agreement, POSIX milliseconds.
    pub expires_ms: u64,
    /// What `join_sum` sums up: there where it is one of the computations, and nowhere else.
    pub sums: Option<JoinSumTerms>,
    /// Who helps with `overlap_n`: there where it is one of the computations, and nowhere else.
    pub overlap: Option<HelperTerms>,
}

impl ProposeAgreement {
    /// What a match costs: each owner, and besides, of a `join_sum` the responder, of an `overlap_n` each owner for what the helper
    /// sees.
    #[must_use]
    pub fn charges(&self, computation: Computation) -> [BudgetCap; 2] {
        match (computation, &self.sums, &self.overlap) {
            (Computation::JoinSum, Some(sums), _) => sums.charges(),
            (Computation::OverlapN, _, Some(overlap)) => {
                [self.noise.charge(), overlap.regions.charge()]
            }
            (Computation::List, ..) => [BudgetCap::default(); 2],
            _ => [self.noise.charge(), BudgetCap::default()],
        }
    }

    /// Whose consent it needs: the parties' and the helper's, ascending.
    #[must_use]
    pub fn consenting(&self) -> Vec<MemberId> {
        let mut members = self.parties.clone();
        members.extend(self.overlap.as_ref().and_then(|o| o.helper));
        members.sort_unstable();
        members
    }

    /// The most that a match of any of its computations costs an owner: the larger rho and the larger delta.
    #[must_use]
    pub fn largest_charge(&self) -> BudgetCap {
        let most = |found: BudgetCap, computation: &Computation| {
            let [each, besides] = self.charges(*computation);
            BudgetCap {
                micro_rho: found
                    .micro_rho
                    .max(each.micro_rho.saturating_add(besides.micro_rho)),
                delta: found.delta.max(each.delta.saturating_add(besides.delta)),
            }
        };
        self.computations.iter().fold(BudgetCap::default(), most)
    }

    /// Whether the noise of sums is there where that of counts is: so that one word says whether answers are exact.
    pub(crate) fn noises_agree(&self) -> bool {
        self.sums
            .as_ref()
            .is_none_or(|s| (s.noise == SumNoise::None) == (self.noise == Noise::None))
    }
}

impl Canonical for ProposeAgreement {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .list(&self.parties, |w, m| {
                w.raw(&m.0);
            })
            .text(&self.purpose)
            .list(&self.computations, |w, c| c.write(w));
        self.suite.write(w);
        self.profile.write(w);
        w.u64(self.min_set_size)
            .u64(self.max_set_size)
            .u64(self.min_result);
        self.noise.write(w);
        self.epoch_cap.write(w);
        self.lifetime_cap.write(w);
        w.u32(self.max_audiences)
            .u32(self.max_matches)
            .u64(self.expires_ms);
        // Its presence follows from the computations, so agreements without it have the bytes that they always had.
        if let Some(sums) = &self.sums {
            sums.write(w);
        }
        if let Some(overlap) = &self.overlap {
            overlap.write(w);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let parties = r.list("parties", MAX_PARTIES, |r| Ok(MemberId(r.array("party")?)))?;
        ascending("parties", &parties, 2)?;
        let purpose = non_empty(r, "purpose", MAX_PURPOSE)?;
        let computations = r.list("computations", Computation::ALL.len(), Computation::read)?;
        ascending("computations", &computations, 1)?;
        let sums = computations.contains(&Computation::JoinSum);
        let overlap = computations.contains(&Computation::OverlapN);
        Ok(Self {
            parties,
            purpose,
            computations,
            suite: Suite::read(r)?,
            profile: Profile::read(r)?,
            min_set_size: r.u64("smallest set")?,
            max_set_size: r.u64("largest set")?,
            min_result: r.u64("smallest result")?,
            noise: Noise::read(r)?,
            epoch_cap: BudgetCap::read(r)?,
            lifetime_cap: BudgetCap::read(r)?,
            max_audiences: r.u32("audiences")?,
            max_matches: r.u32("matches")?,
            expires_ms: r.u64("expiry")?,
            sums: match sums {
                true => Some(JoinSumTerms::read(r)?),
                false => None,
            },
            overlap: match overlap {
                true => Some(HelperTerms::read(r)?),
                false => None,
            },
        })
    }
}

/// At least `min` items, strictly ascending.
fn ascending<T: Ord>(what: &'static str, items: &[T], min: usize) -> Result<(), CodecError> {
    if items.len() < min || !items.is_sorted_by(|a, b| a < b) {
        return Err(CodecError::Invalid {
            what,
            found: items.len() as u64,
        });
    }
    Ok(())
}

/// Kind 21: accepts a proposed agreement; it is active when every party has, and the helper if there is one. Signed by an
/// administrator of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptAgreement {
    /// The agreement.
    pub agreement: AgreementId,
}

/// Kind 22: ends an agreement, for ever. Signed by an administrator of any party, or of the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeAgreement {
    /// The agreement.
    pub agreement: AgreementId,
}

macro_rules! names_agreement {
    ($($body:ident),+) => {$(
        impl Canonical for $body {
            fn write(&self, w: &mut Writer) {
                w.u8(BODY_VERSION).raw(&self.agreement.0);
            }

            fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
                r.version("body version", BODY_VERSION)?;
                Ok(Self { agreement: crate::ids::RecordId(r.array("agreement ID")?) })
            }
        }
    )+};
}

names_agreement!(AcceptAgreement, RevokeAgreement);

impl fmt::Display for BudgetCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} micro-rho, {} delta units",
            self.micro_rho, self.delta
        )
    }
}
