//! The private join of attribution, done in the clear, equals the plain reference: on the sample journeys and on any others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tally_measure::attribution::*;
use tally_measure::{Error, Identifier};

type Touches = BTreeMap<Identifier, Vec<Touch>>;
type People = BTreeMap<Identifier, Vec<Conversion>>;

const LINEAR: SumModel = SumModel::Linear { touches: 7 };
const MODELS: [SumModel; 3] = [SumModel::LastTouch, SumModel::First, LINEAR];

struct Joined {
    totals: Vec<u64>,
    media_rows: u64,
    brand_rows: u64,
    groups: usize,
}

/// Both sides' keys, joined in the clear: value times weight by label.
fn join(
    touches: &Touches,
    conversions: &People,
    labels: usize,
    model: &SumModel,
    windows: &Windows,
) -> Joined {
    let mut values: HashMap<Vec<u8>, u64> = HashMap::new();
    brand_keys::<Error>(conversions, model, windows, |key, value| {
        assert!(values.insert(key.to_vec(), value).is_none(), "a key twice");
        Ok(())
    })
    .unwrap();
    let classes = model.weights();
    let mut totals = vec![0; labels];
    let (mut seen, mut groups) = (HashSet::new(), HashSet::new());
    media_keys::<Error>(touches, model, windows, |label, class, key| {
        assert!(seen.insert(key.to_vec()), "a key twice");
        groups.insert((label, class));
        if let Some(value) = values.get(key) {
            totals[usize::from(label)] += u64::from(classes[class]) * value;
        }
        Ok(())
    })
    .unwrap();
    Joined {
        totals,
        media_rows: seen.len() as u64,
        brand_rows: values.len() as u64,
        groups: groups.len(),
    }
}

/// The sample, if it is there; its labels too.
fn journeys() -> Option<(Touches, People, Labels)> {
    let dir = std::env::var_os("TALLY_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let dir = dir.join("journeys");
    let (Ok(media), Ok(brand)) = (
        File::open(dir.join("media_touches.csv")),
        File::open(dir.join("brand_conversions.csv")),
    ) else {
        assert_ne!(
            std::env::var("CI_STRICT").as_deref(),
            Ok("1"),
            "nothing may be skipped: no journeys"
        );
        println!("skipped: no journeys in {}", dir.display());
        return None;
    };
    let profile = "e164".parse().unwrap();
    let touches = import_touches(media, profile, None, &TouchColumns::default()).unwrap();
    let conversions =
        import_conversions(brand, profile, None, &ConversionColumns::default()).unwrap();
    assert_eq!(touches.report().used, 51_326);
    assert_eq!(conversions.report().used, 7_417);
    let labels = Labels::new(
        touches
            .channels()
            .into_keys()
            .map(|name| SumLabel {
                name,
                minimum_people: 50,
            })
            .collect(),
    )
    .unwrap();
    let (people, left_out, cut) = conversions.bounded(200_000, 1);
    assert_eq!((left_out, cut), (0, 0));
    Some((touches.labelled(&labels), people, labels))
}

#[test]
fn totals_by_channel_equal_the_reference_on_the_journeys() {
    let Some((touches, conversions, labels)) = journeys() else {
        return;
    };
    let windows = Windows::click_7_view_1();
    let touch_count: usize = touches.values().map(Vec::len).sum();
    for model in MODELS {
        let reference =
            attribute(&touches, &conversions, labels.count(), &model, &windows).unwrap();
        let joined = join(&touches, &conversions, labels.count(), &model, &windows);
        assert_eq!(joined.totals, reference, "{model}");
        #[allow(clippy::cast_precision_loss)]
        let a_touch = joined.media_rows as f64 / touch_count as f64;
        println!(
            "{}: {} media keys, {a_touch:.1} a touch; {} brand keys, {} a conversion; {} of {} classes in use",
            model,
            joined.media_rows,
            joined.brand_rows,
            brand_rows_per_conversion(&model, &windows),
            joined.groups,
            labels.count() * model.weights().len(),
        );
        let unit = u64::from(model.unit());
        let shown: Vec<_> = (0..labels.count())
            .map(|l| {
                format!(
                    "{} {}",
                    labels.name(l).unwrap_or_default(),
                    reference[l] / unit
                )
            })
            .collect();
        println!("  {}", shown.join(", "));
        // Everything credited once: the same conversions under each model.
        assert_eq!(reference.iter().sum::<u64>() % unit, 0);
        assert_eq!(reference.iter().sum::<u64>() / unit, 15_030_931);
        let expected = if model == LINEAR {
            20.0..40.0
        } else {
            3.0..8.0
        };
        assert!(expected.contains(&a_touch), "{a_touch} keys a touch");
    }
}

/// Linear over at most 7 touches against linear over all of them (16 at most in the sample), both exact in integers.
#[test]
fn what_the_bound_of_seven_touches_moves_is_small() {
    let Some((touches, conversions, labels)) = journeys() else {
        return;
    };
    let windows = Windows::click_7_view_1();
    let all = SumModel::Linear { touches: 16 };
    let of = |model: &SumModel| {
        let totals = attribute(&touches, &conversions, labels.count(), model, &windows).unwrap();
        let unit = u64::from(model.unit());
        totals.into_iter().map(|t| t / unit).collect::<Vec<_>>()
    };
    let joined = join(&touches, &conversions, labels.count(), &all, &windows);
    let reference = attribute(&touches, &conversions, labels.count(), &all, &windows).unwrap();
    assert_eq!(joined.totals, reference);
    let (seven, sixteen) = (of(&LINEAR), of(&all));
    let moved: u64 = seven
        .iter()
        .zip(&sixteen)
        .map(|(a, b)| a.abs_diff(*b))
        .sum();
    let total: u64 = sixteen.iter().sum();
    println!("linear over 7 touches moves {moved} of {total}");
    assert!(moved * 200 < total, "{moved} of {total}");
}

fn person(n: u8) -> Identifier {
    Identifier::from_bytes(&[b'p', n]).unwrap()
}

const T0: u64 = 1_700_000_000;

/// Touches and conversions of a few people on a grid so coarse that ties, window edges and conversions at a touch's very second
/// are common; the grid may be shifted on the brand's side, as if its clock were off.
#[allow(clippy::type_complexity)]
fn scene() -> impl Strategy<Value = (Vec<(u8, u64, u16, bool)>, Vec<(u8, u64, u64)>, i64, u64)> {
    (
        prop::collection::vec((0_u8..4, 0_u64..30, 0_u16..4, any::<bool>()), 0..40),
        prop::collection::vec((0_u8..5, 0_u64..50, 0_u64..100_000), 0..20),
        -3_i64..4,
        prop_oneof![Just(1_u64), Just(10), Just(977)],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_journeys_join_as_the_reference((touches, conversions, skew, step) in scene()) {
        // Windows in steps, so that many conversions fall on their very edge.
        let windows = Windows::new(
            u32::try_from(12 * step).unwrap(),
            u32::try_from(5 * step).unwrap(),
        ).unwrap();
        let mut media = Touches::new();
        for (p, at, label, click) in touches {
            media.entry(person(p)).or_default().push(Touch {
                at: T0 + at * step,
                label,
                kind: if click { TouchKind::Click } else { TouchKind::View },
            });
        }
        media.values_mut().for_each(|l| l.sort_by_key(|t| t.at));
        let mut brand = People::new();
        for (p, at, value) in conversions {
            brand.entry(person(p)).or_default().push(Conversion {
                at: (T0 + at * step).saturating_add_signed(skew),
                value,
            });
        }
        for model in [SumModel::LastTouch, SumModel::First, LINEAR, SumModel::Linear { touches: 3 }] {
            let reference = attribute(&media, &brand, 4, &model, &windows).unwrap();
            prop_assert_eq!(join(&media, &brand, 4, &model, &windows).totals, reference);
            for touches in media.values() {
                let segments = segments(touches, &model, &windows).unwrap();
                let unit = model.unit();
                prop_assert!(segments.iter().all(|s| s.from < s.to
                    && s.credit.iter().map(|c| c.weight).sum::<u32>() == unit
                    && s.credit.len() <= usize::try_from(model.slots()).unwrap()));
                prop_assert!(segments.windows(2).all(|p| p[0].to <= p[1].from
                    && (p[0].to < p[1].from || p[0].credit != p[1].credit)));
            }
        }
    }
}

#[test]
fn touches_out_of_order_or_time_are_refused() {
    let touch = |at| Touch {
        at,
        label: 0,
        kind: TouchKind::Click,
    };
    let windows = Windows::click_7_view_1();
    for bad in [vec![touch(2), touch(1)], vec![touch(MAX_TIME)]] {
        assert!(matches!(
            segments(&bad, &SumModel::First, &windows),
            Err(Error::Time)
        ));
    }
    let many = vec![touch(1); MAX_TOUCHES + 1];
    assert!(matches!(
        segments(&many, &SumModel::First, &windows),
        Err(Error::Touches { .. })
    ));
    // A credit for a label that is none, and a total past 64 bits.
    let media = [(person(1), vec![touch(1)])].into();
    let conversion = |value| Conversion { at: 2, value };
    let brand = |values: &[u64]| -> People {
        [(person(1), values.iter().map(|v| conversion(*v)).collect())].into()
    };
    let of = |labels, values| attribute(&media, &brand(values), labels, &SumModel::First, &windows);
    assert!(matches!(of(0, &[1]), Err(Error::Label { .. })));
    assert!(matches!(of(1, &[u64::MAX, 1]), Err(Error::Overflow)));
    assert_eq!(of(1, &[u64::MAX - 1, 1]).unwrap(), [u64::MAX]);
}
