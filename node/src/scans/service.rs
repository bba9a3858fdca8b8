//! Takes scans: asks whoever can verify the code, writes, answers with a receipt.

use std::sync::Arc;
use std::time::Duration;

use rand_core::OsRng;
use tally_contracts::codec::Canonical;
use tally_contracts::ids::{MemberId, NetworkId};
use tally_contracts::records::{ExpiryDate, Gtin};
use zeroize::Zeroizing;

use super::draft::{Appended, Draft, Finding, LaterDraft};
use super::keys::KeyUse;
use super::state::Pending;
use super::{
    AnchorRecord, Channel, ClaimCheck, Clock, CodeBook, First, ForwardRequest, Forwarder, Issuer,
    MAX_FORWARD_BYTES, Place, Product, Reach, Reasons, Receipt, RecordKeys, ScanAnswer, ScanError,
    ScanId, ScanLog, ScannedCode, SignedAnswer, SignedReceipt, Signer, StoredScan, UnitFinding,
    Verdict,
};

/// Who the service works for, and how long it waits.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The network.
    pub network: NetworkId,
    /// This node's member.
    pub member: MemberId,
    /// How long a scan waits for another member's answer before it is `cannot_verify_now`.
    pub forward_deadline: Duration,
    /// Characters of a place's cell that are kept, at most [`MAX_CELL`](super::MAX_CELL); 0 for no cell.
    pub cell_length: usize,
}

/// A scan that someone makes.
pub struct ScanRequest {
    /// The code.
    pub code: ScannedCode,
    /// The claim code as typed, secret; at most 32 bytes.
    pub claim: Option<Zeroizing<String>>,
    /// Where, if it was said.
    pub place: Option<Place>,
    /// Where its network address is, if that is known: taken where no place was said. The same request may come from another address
    /// when it comes again, so this is no part of what makes it the same.
    pub address_place: Option<Place>,
    /// How it came.
    pub channel: Channel,
    /// Pseudonym of who scans; see [`ScanLog::pseudonym`].
    pub source: [u8; 16],
    /// Names the request, so that a repetition gets the answer of the first.
    pub idempotency_key: Option<String>,
}

/// A scan that is in the log, with everything that is known of it now.
#[derive(Debug, Clone)]
pub struct ScanOutcome {
    /// The scan.
    pub scan: StoredScan,
    /// The product, if it is registered.
    pub product: Option<Product>,
    /// The node's receipt.
    pub receipt: SignedReceipt,
    /// The anchor that covers it, if there is one yet.
    pub anchor: Option<AnchorRecord>,
    /// Whether this request was answered before.
    pub repeated: bool,
}

/// What is known of a code without scanning it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knowledge {
    /// The product, if it is registered.
    pub product: Option<Product>,
    /// The verdict that a scan would get now.
    pub verdict: Verdict,
    /// Counted scans so far.
    pub count: u64,
    /// The first of them.
    pub first: Option<First>,
    /// Why it is suspect; none with another verdict.
    pub reasons: Reasons,
    /// The last day on which the unit is good, if this member issued it and there is one.
    pub expires: Option<ExpiryDate>,
}

/// The scan service of a node; cheap to share behind an `Arc`.
pub struct ScanService {
    pub(super) config: ServiceConfig,
    pub(super) log: ScanLog,
    pub(super) code_book: Arc<dyn CodeBook>,
    pub(super) issuer: Arc<dyn Issuer>,
    pub(super) keys: Arc<dyn RecordKeys>,
    pub(super) forwarder: Arc<dyn Forwarder>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) struct Found {
    pub(super) finding: Finding,
    claim: ClaimCheck,
    pub(super) reach: Reach,
    evidence: Vec<u8>,
}

impl Found {
    const fn other(verdict: Verdict) -> Self {
        Self {
            finding: Finding::Other(verdict),
            claim: ClaimCheck::Absent,
            reach: Reach::Unknown,
            evidence: Vec::new(),
        }
    }
}

impl ScanService {
    /// Puts the parts together.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each thing that the node wires in"
    )]
    pub fn new(
        config: ServiceConfig,
        log: ScanLog,
        code_book: Arc<dyn CodeBook>,
        issuer: Arc<dyn Issuer>,
        keys: Arc<dyn RecordKeys>,
        forwarder: Arc<dyn Forwarder>,
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            log,
            code_book,
            issuer,
            keys,
            forwarder,
            signer,
            clock,
        }
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &ScanLog {
        &self.log
    }

    /// The product of a GTIN; `None` if nobody registered it.
    #[must_use]
    pub fn product(&self, gtin: &Gtin) -> Option<Product> {
        self.code_book.product(gtin)
    }

    /// The last day on which the unit of a scan is good; `None` if there is none, or another member issued it.
    #[must_use]
    pub fn expires(&self, scan: &StoredScan) -> Option<ExpiryDate> {
        self.issuer.expires(&scan.unit()?.batch)
    }

    /// The node's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Takes a scan: it is durable when this returns.
    ///
    /// # Errors
    /// [`ScanError::KeyReused`], [`ScanError::ReadOnly`], [`ScanError::Busy`], [`ScanError::Closed`].
    pub async fn scan(
        self: &Arc<Self>,
        mut request: ScanRequest,
    ) -> Result<ScanOutcome, ScanError> {
        request.place = self.coarse(request.place);
        let key = request.idempotency_key.as_ref().map(|key| KeyUse {
            key: self.log.pseudonym(&[b"key", key.as_bytes()]),
            request: self.request_hash(&request),
        });
        if let Some(used) = &key
            && let Some(index) = self.log.answered(used)?
        {
            return self.repeat(index).await;
        }
        self.log.check_writable()?;
        let product = self.code_book.product(request.code.gtin());
        let id = ScanId::random(&mut OsRng);
        let place = request.place.or_else(|| self.coarse(request.address_place));
        let found = self
            .find(
                product.as_ref(),
                id,
                &request.code,
                request.claim,
                place.as_ref(),
                false,
            )
            .await;
        let appended = self
            .log
            .append(Draft {
                id,
                time_ms: self.clock.now_ms(),
                code: request.code,
                finding: found.finding,
                source: request.source,
                place,
                channel: request.channel,
                issuer: product.as_ref().map(|p| p.owner),
                claim: found.claim,
                reach: found.reach,
                key,
                evidence: found.evidence,
                decide_now: false,
            })
            .await?;
        match appended {
            Appended::New {
                record,
                index,
                leaf,
            } => Ok(self.outcome(
                StoredScan {
                    record: *record,
                    index,
                    leaf,
                    later: None,
                },
                product,
                false,
            )),
            Appended::Before { index } => self.repeat(index).await,
            Appended::Later | Appended::EventBefore | Appended::Event { .. } => {
                Err(not_as_a_scan())
            }
        }
    }

    /// Characters of a place's cell that are kept.
    #[must_use]
    pub const fn cell_length(&self) -> usize {
        self.config.cell_length
    }

    /// The place as it may be kept and told.
    pub(super) fn coarse(&self, place: Option<Place>) -> Option<Place> {
        place.map(|p| p.cut(self.config.cell_length))
    }

    fn request_hash(&self, request: &ScanRequest) -> [u8; 16] {
        let place = request.place.as_ref().map(Canonical::to_bytes);
        self.log.pseudonym(&[
            b"request",
            &request.code.to_bytes(),
            place.as_deref().unwrap_or_default(),
            request.claim.as_ref().map_or(b"", |c| c.as_bytes()),
        ])
    }

    async fn repeat(self: &Arc<Self>, index: u64) -> Result<ScanOutcome, ScanError> {
        let scan = self.blocking(move |s| s.log.scan_at(index)).await?;
        Ok(self.known(scan, true))
    }

    /// A scan by its ID.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::Sealed`].
    pub async fn get(self: &Arc<Self>, id: ScanId) -> Result<ScanOutcome, ScanError> {
        let scan = self.blocking(move |s| s.log.scan(&id)).await?;
        Ok(self.known(scan, true))
    }

    /// The proof of a scan under an anchored root, and the receipt whose leaf it proves.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::NotAnchored`], [`ScanError::Sealed`].
    pub async fn proof(
        self: &Arc<Self>,
        id: ScanId,
    ) -> Result<(super::ScanProof, SignedReceipt), ScanError> {
        self.blocking(move |s| {
            let proof = s.log.proof(&id)?;
            let scan = s.log.scan(&id)?;
            Ok((proof, s.receipt(&scan)))
        })
        .await
    }

    fn known(&self, scan: StoredScan, repeated: bool) -> ScanOutcome {
        let product = self.code_book.product(scan.record.code.gtin());
        self.outcome(scan, product, repeated)
    }

    fn outcome(&self, scan: StoredScan, product: Option<Product>, repeated: bool) -> ScanOutcome {
        ScanOutcome {
            receipt: self.receipt(&scan),
            anchor: self.log.anchor_of(scan.index),
            product,
            repeated,
            scan,
        }
    }

    fn receipt(&self, scan: &StoredScan) -> SignedReceipt {
        Receipt {
            network: self.config.network,
            member: self.config.member,
            log_id: self.log.log_id(),
            scan: scan.record.id,
            time_ms: scan.record.time_ms,
            code: scan.record.code_hash(),
            verdict: scan.record.verdict,
            count: scan.record.count,
            log_index: scan.index,
            log_size: scan.index.saturating_add(1),
            leaf: scan.leaf,
            reasons: scan.record.reasons.clone(),
        }
        .sign(self.signer.as_ref())
    }

    /// What is known of a code; nothing is counted or stored.
    ///
    /// # Errors
    /// [`ScanError::Internal`].
    pub async fn look(self: &Arc<Self>, code: &ScannedCode) -> Result<Knowledge, ScanError> {
        let product = self.code_book.product(code.gtin());
        let id = ScanId::random(&mut OsRng);
        let found = self
            .find(product.as_ref(), id, code, None, None, true)
            .await;
        let expires = found
            .finding
            .unit()
            .and_then(|u| self.issuer.expires(&u.batch));
        let view = self.view(code, found.finding).await?;
        Ok(Knowledge {
            product,
            expires,
            ..view
        })
    }

    /// The verdict that the finding would get now.
    async fn view(&self, code: &ScannedCode, finding: Finding) -> Result<Knowledge, ScanError> {
        let known = |verdict, count, first, reasons| Knowledge {
            product: None,
            verdict,
            count,
            first,
            reasons,
            expires: None,
        };
        if let Finding::Answered {
            verdict,
            count,
            first,
            reasons,
        } = finding
        {
            return Ok(known(verdict, count, first, reasons));
        }
        let seen = match self.log.seen(&code.hash()).await {
            Ok(seen) => seen,
            Err(ScanError::IndexAway { reason }) => {
                tracing::debug!(reason, "a code cannot be looked at now");
                return Ok(known(Verdict::CannotVerifyNow, 0, None, Reasons::none()));
            }
            Err(error) => return Err(error),
        };
        let verdict = match finding {
            Finding::Counted(_) if seen.first.is_none() => Verdict::GenuineFirst,
            Finding::Counted(_) => Verdict::GenuineRepeat,
            Finding::Held(_, verdict) | Finding::Other(verdict) => verdict,
            Finding::Answered { .. } => Verdict::CannotVerifyNow,
        };
        // A look tells what a scan would: nothing new is known of a code that is looked at.
        let suspicion = self.log.suspicion(&seen).filter(|_| verdict.is_genuine());
        Ok(match suspicion {
            Some(reasons) => known(Verdict::Suspect, seen.count, seen.first, reasons),
            None => known(verdict, seen.count, seen.first, Reasons::none()),
        })
    }

    /// Verifies here, or asks the issuer.
    async fn find(
        self: &Arc<Self>,
        product: Option<&Product>,
        scan: ScanId,
        code: &ScannedCode,
        claim: Option<Zeroizing<String>>,
        place: Option<&Place>,
        look: bool,
    ) -> Found {
        match product {
            None => Found::other(Verdict::Unknown),
            Some(product) if product.own => {
                self.verify_own(code, claim.as_deref().map(String::as_str), place)
            }
            Some(product) => {
                let request = ForwardRequest {
                    network: self.config.network,
                    asker: self.config.member,
                    scan,
                    code: code.clone(),
                    place: place.cloned(),
                    look,
                    claim,
                };
                match self.ask(&request, product.owner).await {
                    Ok(found) => found,
                    Err(reason) => {
                        tracing::debug!(issuer = %product.owner, reason, "a scan cannot be verified now");
                        Found::other(Verdict::CannotVerifyNow)
                    }
                }
            }
        }
    }

    /// What a scan of the code would find, its history aside: the verdict, `Unknown` if it was never issued, and whether the claim code is of
    /// this pack. `None` if only another member can say. Nothing is asked of anybody, nothing is stored.
    pub(crate) fn judge(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
    ) -> Option<(Verdict, ClaimCheck)> {
        match self.code_book.product(code.gtin()) {
            None => Some((Verdict::Unknown, ClaimCheck::Absent)),
            Some(product) if !product.own => None,
            Some(_) => {
                let found = self.verify_own(code, claim, None);
                let verdict = match found.finding {
                    Finding::Held(_, verdict) | Finding::Other(verdict) => verdict,
                    Finding::Counted(_) | Finding::Answered { .. } => Verdict::GenuineRepeat,
                };
                Some((verdict, found.claim))
            }
        }
    }

    /// Takes microseconds, fewer than another thread would take to begin.
    pub(super) fn verify_own(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
        place: Option<&Place>,
    ) -> Found {
        let now_ms = self.clock.now_ms();
        let (finding, claim) = self.issuer.verify(code, claim, now_ms);
        let finding = match finding {
            UnitFinding::Released(unit) => Finding::Counted(unit),
            UnitFinding::NotReleased(unit) => Finding::Held(unit, Verdict::NotReleased),
            UnitFinding::Recalled(unit) => Finding::Held(unit, Verdict::Recalled),
            UnitFinding::Revoked(unit) => Finding::Held(unit, Verdict::Revoked),
            UnitFinding::Expired(unit) => Finding::Held(unit, Verdict::Expired),
            UnitFinding::Unknown => Finding::Other(Verdict::Unknown),
            UnitFinding::Unavailable => Finding::Other(Verdict::CannotVerifyNow),
        };
        // Without a place nothing is looked up.
        let reach = match &finding {
            Finding::Counted(unit) | Finding::Held(unit, _) if place.is_some() => {
                Reach::of(place, self.issuer.territory(&unit.batch).as_ref())
            }
            _ => Reach::Unknown,
        };
        Found {
            finding,
            claim,
            reach,
            evidence: Vec::new(),
        }
    }

    async fn ask(&self, request: &ForwardRequest, issuer: MemberId) -> Result<Found, String> {
        let asked = self.forwarder.ask(issuer, request.to_bytes());
        let bytes = tokio::time::timeout(self.config.forward_deadline, asked)
            .await
            .map_err(|_| "no answer before the deadline".to_owned())?
            .map_err(|e| e.to_string())?;
        if bytes.len() > MAX_FORWARD_BYTES {
            return Err(format!("an answer of {} bytes", bytes.len()));
        }
        let signed = SignedAnswer::from_bytes(&bytes).map_err(|e| e.to_string())?;
        signed
            .verify_for(request, &issuer, &self.keys.record_keys(&issuer))
            .map_err(|e| e.to_string())?;
        let answer = signed.answer;
        if answer.verdict == Verdict::CannotVerifyNow {
            return Err("the issuer cannot verify now".to_owned());
        }
        Ok(Found {
            finding: Finding::Answered {
                verdict: answer.verdict,
                count: answer.count,
                first: answer.first,
                reasons: answer.reasons,
            },
            claim: answer.claim,
            reach: Reach::Unknown,
            evidence: bytes,
        })
    }

    /// Answers another member's [`ForwardRequest`], as the issuer. `from` is the member at the other end of the stream.
    ///
    /// # Errors
    /// [`ScanError::Codec`], [`ScanError::Mismatch`], [`ScanError::NotIssuer`], and those of [`Self::scan`]. The caller ends the
    /// stream then; the asker counts that as no answer.
    pub async fn answer_forwarded(
        self: &Arc<Self>,
        from: MemberId,
        request: &[u8],
    ) -> Result<Vec<u8>, ScanError> {
        if request.len() > MAX_FORWARD_BYTES {
            return Err(ScanError::Input {
                what: "forwarded scan",
                expected: "at most 1,024 bytes",
            });
        }
        let mut request = ForwardRequest::from_bytes(request)?;
        request.place = self.coarse(request.place);
        for (what, same) in [
            ("network", request.network == self.config.network),
            ("asker", request.asker == from),
        ] {
            if !same {
                return Err(ScanError::Mismatch { what });
            }
        }
        let product = self.code_book.product(request.code.gtin());
        let Some(product) = product.filter(|p| p.own) else {
            return Err(ScanError::NotIssuer {
                gtin: request.code.gtin().to_string(),
            });
        };
        let (asker, scan, look) = (request.asker, request.scan, request.look);
        let code = request.code.hash();
        let (known, claim) = if look {
            let found = self.verify_own(
                &request.code,
                request.claim.as_deref().map(String::as_str),
                None,
            );
            let known = self.view(&request.code, found.finding).await?;
            (known, found.claim)
        } else {
            let record = self.count_forwarded(request, &product).await?;
            let known = Knowledge {
                product: None,
                verdict: record.verdict,
                count: record.count,
                first: record.first,
                reasons: record.reasons,
                expires: None,
            };
            (known, record.claim)
        };
        let answer = ScanAnswer {
            network: self.config.network,
            issuer: self.config.member,
            asker,
            scan,
            code,
            look,
            verdict: known.verdict,
            count: known.count,
            first: known.first,
            claim,
            reasons: known.reasons,
            time_ms: self.clock.now_ms(),
        };
        Ok(answer.sign(self.signer.as_ref()).to_bytes())
    }

    async fn count_forwarded(
        self: &Arc<Self>,
        request: ForwardRequest,
        product: &Product,
    ) -> Result<super::ScanRecord, ScanError> {
        // The asker may ask again without the claim code, which it does not store: the scan is the same.
        let key = KeyUse {
            key: self
                .log
                .pseudonym(&[b"forward", request.asker.as_bytes(), &request.scan.0]),
            request: self.log.pseudonym(&[b"request", &request.code.to_bytes()]),
        };
        if let Some(index) = self.log.answered(&key)? {
            return Ok(self.repeat(index).await?.scan.record);
        }
        self.log.check_writable()?;
        let found = self.verify_own(
            &request.code,
            request.claim.as_deref().map(String::as_str),
            request.place.as_ref(),
        );
        if matches!(found.finding, Finding::Other(Verdict::CannotVerifyNow)) {
            // Not stored here: the asker keeps it and asks again.
            return Err(ScanError::ReadOnly {
                reason: "codes cannot be verified now".to_owned(),
            });
        }
        let appended = self
            .log
            .append(Draft {
                id: ScanId::random(&mut OsRng),
                time_ms: self.clock.now_ms(),
                code: request.code,
                finding: found.finding,
                source: self.log.pseudonym(&[b"member", request.asker.as_bytes()]),
                place: request.place,
                channel: Channel::Forward,
                issuer: Some(product.owner),
                claim: found.claim,
                reach: found.reach,
                key: Some(key),
                evidence: Vec::new(),
                decide_now: true,
            })
            .await?;
        match appended {
            Appended::New { record, .. } => Ok(*record),
            Appended::Before { index } => Ok(self.repeat(index).await?.scan.record),
            Appended::Later | Appended::EventBefore | Appended::Event { .. } => {
                Err(not_as_a_scan())
            }
        }
    }

    /// Asks again about one scan that could not be verified; `false` if the answer is still out.
    pub(super) async fn retry(
        self: &Arc<Self>,
        index: u64,
        pending: Pending,
    ) -> Result<bool, ScanError> {
        let product = self.code_book.product(pending.code.gtin());
        let found = match &product {
            // The product was there when it was scanned; the ledger's state is behind.
            None => return Ok(false),
            Some(_) => {
                self.find(
                    product.as_ref(),
                    pending.id,
                    &pending.code,
                    None,
                    pending.place.as_ref(),
                    false,
                )
                .await
            }
        };
        if matches!(found.finding, Finding::Other(Verdict::CannotVerifyNow)) {
            return Ok(false);
        }
        let appended = self
            .log
            .append_later(LaterDraft {
                index,
                time_ms: self.clock.now_ms(),
                finding: found.finding,
                reach: found.reach,
                evidence: found.evidence,
            })
            .await;
        match appended {
            Ok(_) => Ok(true),
            Err(ScanError::IndexAway { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes scans from before `cutoff_ms` POSIX milliseconds from the log; their leaves and the counts of their codes stay.
    ///
    /// # Errors
    /// [`ScanError::Sealed`], [`ScanError::Closed`].
    pub async fn delete_before(
        self: &Arc<Self>,
        cutoff_ms: u64,
    ) -> Result<super::Deleted, ScanError> {
        self.log.begin_deleting(cutoff_ms).await?;
        self.blocking(move |s| s.log.delete_before(cutoff_ms)).await
    }

    /// Runs on a thread that may compute and read the disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Self) -> Result<T, ScanError> + Send + 'static,
    ) -> Result<T, ScanError> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || f(&this))
            .await
            .map_err(|_| ScanError::Closed)?
    }
}

const fn not_as_a_scan() -> ScanError {
    ScanError::Internal {
        what: "a scan was not written as one",
    }
}
