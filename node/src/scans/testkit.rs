//! A network of two members in memory: what the traits of this module ask for, under the tests' control.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tally_contracts::ids::{BatchId, MemberId, NetworkId, PublicKey, RecordId};
use tally_contracts::records::{AnchorScans, ExpiryDate, Gtin, Territory};
use tally_merkle::{Hash, verify_consistency};

use super::*;
use crate::sealed::StorageKey;

pub(crate) const NETWORK: NetworkId = NetworkId([7; 32]);
pub(crate) const BRAND: MemberId = MemberId([1; 16]);
pub(crate) const MEDIA: MemberId = MemberId([2; 16]);
/// A product of the brand.
pub(crate) const GTIN: &str = "09521234543213";
/// A product of nobody.
pub(crate) const GTIN_OF_NOBODY: &str = "09506000134352";

pub(crate) struct ManualClock(pub(crate) AtomicU64);

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

pub(crate) struct Book {
    own: MemberId,
}

impl Book {
    /// As the brand sees it.
    pub(crate) const fn brand() -> Self {
        Self { own: BRAND }
    }
}

impl CodeBook for Book {
    fn product(&self, gtin: &Gtin) -> Option<Product> {
        (gtin.as_str() == GTIN).then(|| Product {
            owner: BRAND,
            owner_name: "brand".into(),
            description: "Tea, 100 g <green>".into(),
            brand: "Highland".into(),
            own: self.own == BRAND,
        })
    }
}

/// The claim code of every pack, and one of none; both have a right check character.
pub(crate) const RIGHT_CLAIM: &str = "0000-0000-00000";
pub(crate) const WRONG_CLAIM: &str = "0000-0000-00011";

/// When units whose serials start with E expire, ten days after the tests' clock begins.
pub(crate) const EXPIRES: &str = "260930";

fn is_over(now_ms: u64) -> bool {
    let date: ExpiryDate = EXPIRES.parse().expect("date");
    date.is_over(now_ms)
}

/// Serials that start with G are genuine, with H not released, with R recalled, with V void, with E genuine until their last day is over.
#[derive(Default)]
pub(crate) struct FakeIssuer {
    pub(crate) unavailable: AtomicBool,
    pub(crate) territory: Mutex<Option<Territory>>,
    /// What pages show; every unit is of one batch here.
    pub(crate) expires: Mutex<Option<ExpiryDate>>,
}

impl Issuer for FakeIssuer {
    fn expires(&self, _: &BatchId) -> Option<ExpiryDate> {
        *self.expires.lock().expect("expires")
    }

    fn territory(&self, _: &BatchId) -> Option<Territory> {
        self.territory.lock().expect("territory").clone()
    }

    fn verify(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
        now_ms: u64,
    ) -> (UnitFinding, ClaimCheck) {
        let unit = UnitRef {
            batch: BatchId([9; 16]),
            index: 3,
        };
        let finding = match code.serial().as_bytes().first() {
            _ if self.unavailable.load(Ordering::SeqCst) => UnitFinding::Unavailable,
            Some(b'G') => UnitFinding::Released(unit),
            Some(b'H') => UnitFinding::NotReleased(unit),
            Some(b'R') => UnitFinding::Recalled(unit),
            Some(b'V') => UnitFinding::Revoked(unit),
            Some(b'E') if is_over(now_ms) => UnitFinding::Expired(unit),
            Some(b'E') => UnitFinding::Released(unit),
            _ => UnitFinding::Unknown,
        };
        let plain = |claim: &str| claim.replace(['-', ' '], "");
        let claim = match claim.map(plain) {
            Some(claim) if claim == plain(RIGHT_CLAIM) => ClaimCheck::Right,
            Some(_) => ClaimCheck::Wrong,
            None => ClaimCheck::Absent,
        };
        (finding, claim)
    }
}

pub(crate) fn signing_key(member: MemberId) -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[member.0[0]; 32])
}

pub(crate) struct Keys;

impl RecordKeys for Keys {
    fn record_keys(&self, member: &MemberId) -> Vec<PublicKey> {
        vec![signing_key(*member).public_key()]
    }
}

/// Carries bytes to the service of the issuer; can be cut, and can lose or change answers.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) from: Mutex<Option<MemberId>>,
    pub(crate) to: Mutex<Option<Arc<ScanService>>>,
    pub(crate) cut: AtomicBool,
    pub(crate) lose_answers: AtomicBool,
    pub(crate) flip_byte: Mutex<Option<usize>>,
}

#[async_trait]
impl Forwarder for Wire {
    async fn ask(&self, _issuer: MemberId, request: Vec<u8>) -> Result<Vec<u8>, ForwardError> {
        let fail = |reason: &str| ForwardError {
            reason: reason.into(),
        };
        if self.cut.load(Ordering::SeqCst) {
            return Err(fail("cut"));
        }
        let to = self.to.lock().expect("wire").clone();
        let from = self.from.lock().expect("wire").unwrap_or(MEDIA);
        let to = to.ok_or_else(|| fail("no route"))?;
        let mut answer = to
            .answer_forwarded(from, &request)
            .await
            .map_err(|e| fail(&e.to_string()))?;
        if self.lose_answers.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if let Some(at) = *self.flip_byte.lock().expect("wire") {
            let at = at % answer.len();
            answer[at] ^= 1;
        }
        Ok(answer)
    }
}

/// A ledger that holds anchors only, with the contract's rule.
#[derive(Default)]
pub(crate) struct FakeLedger {
    pub(crate) anchors: Mutex<HashMap<u16, Vec<Anchored>>>,
    pub(crate) down: AtomicBool,
    /// Commits, but the submitter does not hear of it.
    pub(crate) mute: AtomicBool,
}

#[async_trait]
impl Anchorer for FakeLedger {
    async fn last(&self, log_id: u16) -> Result<Option<Anchored>, AnchorError> {
        let anchors = self.anchors.lock().expect("ledger");
        Ok(anchors.get(&log_id).and_then(|a| a.last().copied()))
    }

    async fn anchor(&self, anchor: AnchorScans) -> Result<Anchored, AnchorError> {
        let fail = |reason: &str| AnchorError {
            reason: reason.into(),
        };
        if self.down.load(Ordering::SeqCst) {
            return Err(fail("down"));
        }
        let mut anchors = self.anchors.lock().expect("ledger");
        let of_log = anchors.entry(anchor.log_id).or_default();
        if let Some(last) = of_log.last() {
            verify_consistency(
                last.size,
                anchor.size,
                &last.root,
                &anchor.root,
                &anchor.consistency,
            )
            .map_err(|e| fail(&e.to_string()))?;
        }
        let anchored = Anchored {
            size: anchor.size,
            root: anchor.root,
            record: RecordId([u8::try_from(of_log.len() % 256).unwrap_or(0); 32]),
        };
        of_log.push(anchored);
        if self.mute.load(Ordering::SeqCst) {
            return Err(fail("mute"));
        }
        Ok(anchored)
    }
}

impl FakeLedger {
    pub(crate) fn root_at(&self, log_id: u16, size: u64) -> Option<Hash> {
        let anchors = self.anchors.lock().expect("ledger");
        let of_log = anchors.get(&log_id)?;
        of_log.iter().find(|a| a.size == size).map(|a| a.root)
    }
}

/// One member's node, as far as scans go.
pub(crate) struct TestNode {
    pub(crate) service: Arc<ScanService>,
    pub(crate) issuer: Arc<FakeIssuer>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn storage_key() -> StorageKey {
    StorageKey::from_bytes([5; 32])
}

pub(crate) fn node(member: MemberId, dir: &Path) -> TestNode {
    node_with(member, &ScanLogConfig::new(dir, 0))
}

pub(crate) fn node_with(member: MemberId, config: &ScanLogConfig) -> TestNode {
    node_under(member, config, &storage_key())
}

/// A node with this key for what it stores.
pub(crate) fn node_under(member: MemberId, config: &ScanLogConfig, key: &StorageKey) -> TestNode {
    let log = ScanLog::open(config, key).expect("open scan log");
    let issuer = Arc::new(FakeIssuer::default());
    let wire = Arc::new(Wire::default());
    let clock = Arc::new(ManualClock(AtomicU64::new(1_790_000_000_000)));
    let service = Arc::new(ScanService::new(
        ServiceConfig {
            network: NETWORK,
            member,
            forward_deadline: Duration::from_millis(200),
            cell_length: 5,
        },
        log,
        Arc::new(Book { own: member }),
        Arc::clone(&issuer) as Arc<dyn Issuer>,
        Arc::new(Keys),
        Arc::clone(&wire) as Arc<dyn Forwarder>,
        Arc::new(signing_key(member)),
        Arc::clone(&clock) as Arc<dyn Clock>,
    ));
    TestNode {
        service,
        issuer,
        wire,
        clock,
    }
}

/// A brand and a media member whose node forwards to the brand's.
pub(crate) fn pair(brand_dir: &Path, media_dir: &Path) -> (TestNode, TestNode) {
    let brand = node(BRAND, brand_dir);
    let media = node(MEDIA, media_dir);
    *media.wire.to.lock().expect("wire") = Some(Arc::clone(&brand.service));
    (brand, media)
}

pub(crate) fn code(serial: &str) -> ScannedCode {
    ScannedCode::new(GTIN, serial).expect("code")
}

pub(crate) fn request(serial: &str, key: Option<&str>) -> ScanRequest {
    ScanRequest {
        code: code(serial),
        claim: None,
        place: Some(Place::new("cn", "Sichuan").expect("place")),
        address_place: None,
        channel: Channel::Post,
        source: [4; 16],
        idempotency_key: key.map(Into::into),
    }
}
