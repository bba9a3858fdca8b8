//! Codes checked with the real keys: genuine, made up, and made by somebody inside.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tally_codes::batch::{BatchSpec, Deriver};
use tally_codes::gs1::Gtin;
use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys, KeyEpoch};
use tally_codes::verdict::{Alarm, AlarmReason, BatchChecker, BatchStatus, Standing, check};
use tally_codes::{CheckResult, Serial, Verdict};

const ONE: &str = "09521234543213";
const TWO: &str = "09520123456788";

fn gtin(text: &str) -> Gtin {
    text.parse().unwrap()
}

struct Batch {
    keys: BatchKeys,
    epoch: KeyEpoch,
    checker: BatchChecker,
}

struct World {
    rng: ChaCha20Rng,
    issuer: IssuerKeys,
    batches: Vec<Batch>,
}

impl World {
    /// Batch 0: product one, 0..100, epoch 0; batch 1: product two, 100..200, epoch 0; batch 2: product one, 200..300, epoch 1.
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(11);
        let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut rng);
        let mut world = Self {
            rng,
            issuer,
            batches: Vec::new(),
        };
        world.add(ONE, 0);
        world.add(TWO, 100);
        world.issuer.begin_epoch(&mut world.rng).unwrap();
        world.add(ONE, 200);
        world
    }

    fn add(&mut self, product: &str, first: u64) {
        let keys = BatchKeys::generate(&mut self.rng);
        let epoch = self.issuer.current();
        let spec = BatchSpec::new(gtin(product), first, 100).unwrap();
        let checker = BatchChecker::new(&self.issuer, epoch, &keys, spec);
        self.batches.push(Batch {
            keys,
            epoch,
            checker,
        });
    }

    /// What somebody with the keys of a batch can make: a code of any product and index.
    fn forge(&self, batch: usize, product: &str, index: u64) -> Serial {
        let b = &self.batches[batch];
        let spec = BatchSpec::new(gtin(product), index, 1).unwrap();
        Deriver::new(&self.issuer, b.epoch, &b.keys, spec)
            .unwrap()
            .unit(index)
            .unwrap()
            .serial
    }

    fn check(
        &self,
        product: &str,
        serial: Serial,
        anchored: &[Option<BatchStatus>],
    ) -> CheckResult {
        let table = self.batches.iter().take(anchored.len()).map(|b| &b.checker);
        check::<tally_codes::Error>(&self.issuer, &table, &gtin(product), serial, |row| {
            Ok(anchored[row])
        })
        .unwrap()
    }
}

const ALL: [Option<BatchStatus>; 3] = [
    Some(BatchStatus::Active),
    Some(BatchStatus::Issued),
    Some(BatchStatus::Recalled),
];

#[test]
fn every_issued_unit_is_found_in_its_batch() {
    let world = World::new();
    for (row, product, first) in [(0, ONE, 0), (1, TWO, 100), (2, ONE, 200)] {
        for index in [first, first + 50, first + 99] {
            let serial = world.forge(row, product, index);
            assert_eq!(
                world.check(product, serial, &ALL),
                CheckResult::Valid {
                    row,
                    index,
                    status: ALL[row].unwrap()
                }
            );
            let other = if product == ONE { TWO } else { ONE };
            assert_eq!(
                world.check(other, serial, &ALL),
                CheckResult::Unknown,
                "on another product"
            );
        }
    }
}

#[test]
fn a_right_tag_outside_the_anchored_range_is_unknown_and_alarms() {
    let world = World::new();
    for (row, product, index) in [
        (0, ONE, 100), // beyond the batch, in the range of another product's batch
        (0, ONE, 250), // in a later batch of the product, which has other keys
        (0, ONE, (1 << 36) - 1),
        (1, TWO, 99),
        (1, ONE, 50), // another product altogether
        (2, ONE, 0),  // in an earlier batch of the product
    ] {
        let serial = world.forge(row, product, index);
        let alarm = Alarm {
            row,
            index,
            reason: AlarmReason::OutsideBatch,
        };
        assert_eq!(
            world.check(product, serial, &ALL),
            CheckResult::OutsideAnchoredRange(alarm),
            "{row} {index}"
        );
    }
}

#[test]
fn a_batch_that_is_not_anchored_is_unknown_and_alarms() {
    let world = World::new();
    let serial = world.forge(0, ONE, 5);
    let alarm = Alarm {
        row: 0,
        index: 5,
        reason: AlarmReason::NotAnchored,
    };
    assert_eq!(
        world.check(ONE, serial, &[None, None, None]),
        CheckResult::OutsideAnchoredRange(alarm)
    );
    assert_eq!(
        world.check(ONE, serial, &[]),
        CheckResult::Unknown,
        "without its keys nothing is known"
    );
}

#[test]
fn made_up_and_altered_codes_are_unknown() {
    let mut world = World::new();
    let good = world.forge(0, ONE, 5).to_bits();
    for bit in 0..100 {
        assert_eq!(
            world.check(ONE, Serial::from_bits(good ^ 1 << bit), &ALL),
            CheckResult::Unknown
        );
    }
    for _ in 0..2000 {
        let bits = u128::from(world.rng.next_u64()) << 64 | u128::from(world.rng.next_u64());
        assert_eq!(
            world.check(ONE, Serial::from_bits(bits), &ALL),
            CheckResult::Unknown
        );
    }
    let stranger = World {
        issuer: IssuerKeys::generate(IssuerId([8; 16]), &mut world.rng),
        ..World::new()
    };
    assert_eq!(
        stranger.check(ONE, Serial::from_bits(good), &ALL),
        CheckResult::Unknown
    );
}

#[test]
fn a_retired_epoch_is_unknown() {
    let mut world = World::new();
    let (old, new) = (world.forge(0, ONE, 5), world.forge(2, ONE, 205));
    world.issuer.retire_epoch(KeyEpoch(0)).unwrap();
    assert_eq!(world.check(ONE, old, &ALL), CheckResult::Unknown);
    assert_eq!(
        world.check(ONE, new, &ALL),
        CheckResult::Valid {
            row: 2,
            index: 205,
            status: BatchStatus::Recalled
        }
    );
}

#[test]
fn verdicts_have_stable_names() {
    let names: Vec<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
    assert_eq!(
        names,
        [
            "genuine_first",
            "genuine_repeat",
            "not_released",
            "recalled",
            "unknown",
            "cannot_verify_now",
            "revoked",
            "expired",
            "suspect"
        ]
    );
    let mut asked = 0;
    for status in [
        BatchStatus::Issued,
        BatchStatus::Active,
        BatchStatus::Recalled,
    ] {
        for (void, expired) in [(false, false), (false, true), (true, false), (true, true)] {
            let expected = match (status, void, expired) {
                (BatchStatus::Recalled, _, _) => Some(Verdict::Recalled),
                (_, true, _) => Some(Verdict::Revoked),
                (BatchStatus::Issued, false, _) => Some(Verdict::NotReleased),
                (BatchStatus::Active, false, true) => Some(Verdict::Expired),
                (BatchStatus::Active, false, false) => None,
            };
            let standing = Standing {
                status,
                void,
                expired,
            };
            assert_eq!(Verdict::of_standing(standing), expected, "{standing:?}");
            asked += 1;
        }
    }
    assert_eq!(asked, 12);
}
