//! Whether time tells of a secret: two classes of secrets in random order, and Welch's t-test on what they take (Reparaz, Balasch,
//! Verbauwhede, "Dude, is my code constant time?", DATE 2017). A bound on evidence, no proof: what it flags is not constant, what
//! it passes may still leak less than this machine's noise.
//!
//! Ignored by default, since it measures time: `cargo test --release -p tally-psi -- --ignored --test-threads 1 --nocapture timing`.

use std::hint::black_box;
use std::time::Instant;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use zeroize::Zeroizing;

use crate::expand::HashToGroup;
use crate::group::{Input, Key};
use crate::simd::{Eights, Kernels, digits};
use crate::sorter::Row;
use crate::vole::timing::Choose;

/// Above this the classes differ, with odds of one in 150,000 to be wrong.
const LIMIT: f64 = 4.5;

/// The t of two classes of times, without the slowest tenth of each, which is the system's.
fn welch(mut classes: [Vec<f64>; 2]) -> f64 {
    let [a, b] = classes.each_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        let n = times.len() as f64;
        let mean = times.iter().sum::<f64>() / n;
        let variance = times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

/// The t of `work` on the secrets that `secret` makes: class 0 always the same, class 1 random. On one thread.
fn measure<S: Send>(
    samples: usize,
    mut secret: impl FnMut(bool, &mut ChaCha20Rng) -> S + Send,
    mut work: impl FnMut(&S) + Send,
) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut classes = [Vec::new(), Vec::new()];
        for i in 0..samples + samples / 10 {
            let random = rng.next_u32() & 1 == 1;
            let secret = secret(random, &mut rng);
            let start = Instant::now();
            work(black_box(&secret));
            let took = start.elapsed().as_nanos() as f64;
            // The first are to warm up.
            if i >= samples / 10 {
                classes[usize::from(random)].push(took);
            }
        }
        welch(classes)
    })
}

/// The vector path by itself: all eight lanes under one scalar, first raised, then hashed to the group and blinded.
#[test]
#[ignore = "measures time"]
fn eight_lanes_do_not_show_in_time() {
    let Some(eights) = Eights::detect() else {
        println!("this processor has no vector path");
        return;
    };
    let rows = points(8);
    let half = |random: bool, rng: &mut ChaCha20Rng| {
        let scalar = Scalar::from_bytes_mod_order_wide(&wide_scalar(random, rng));
        digits(scalar.div_by_2().as_bytes())
    };
    let raise = is_leak("eight lanes, raise, by the scalar", || {
        measure(8_000, half, |half| {
            black_box(eights.raise(&rows, half).unwrap());
        })
    });
    let uniform = [[9; 64]; 8];
    let blind = is_leak("eight lanes, blind, by the scalar", || {
        measure(8_000, half, |half| {
            black_box(eights.blind(&uniform, half));
        })
    });
    let scalar = digits(&[0x35; 32].map(|b: u8| b & 0x0f));
    let hash = is_leak("eight lanes, blind, by what is hashed", || {
        let drawn = |random: bool, rng: &mut ChaCha20Rng| {
            let mut uniform = [[0; 64]; 8];
            uniform.iter_mut().for_each(|u| rng.fill_bytes(u));
            if random { uniform } else { [[0; 64]; 8] }
        };
        measure(8_000, drawn, |uniform| {
            black_box(eights.blind(uniform, &scalar));
        })
    });
    assert!(!raise && !blind && !hash);
}

/// How small a leak is seen: the vector path, and for one class alone as many steps of a loop as a 50th of its time has nanoseconds. How
/// long a step takes is the processor's business; about a quarter of one.
#[test]
#[ignore = "measures time"]
fn a_leak_of_a_fiftieth_on_the_vector_path_is_seen() {
    let Some(eights) = Eights::detect() else {
        return;
    };
    let rows = points(8);
    let half = digits(Scalar::from(77_u64).as_bytes());
    let one = Instant::now();
    (0..100).for_each(|_| drop(black_box(eights.raise(&rows, &half))));
    let whole = one.elapsed().as_nanos() / 100;
    let mut seen = Vec::new();
    for part in [50, 500] {
        let name = format!("control: raise and a {part}th more for one class");
        seen.push(is_leak(&name, || {
            measure(
                8_000,
                |random, _| random,
                |longer| {
                    black_box(eights.raise(&rows, &half).unwrap());
                    let spins = if *longer { whole / part } else { 0 };
                    (0..spins).for_each(|i| {
                        black_box(i);
                    });
                },
            )
        }));
    }
    println!("seen: a 50th {}, a 500th {}", seen[0], seen[1]);
    assert!(seen[0]);
}

/// Three rounds that all say so, in the same direction, are a leak; one may be the neighbours'.
fn is_leak(name: &str, mut round: impl FnMut() -> f64) -> bool {
    let rounds = [round(), round(), round()];
    println!(
        "{name}: t = {:.1}, {:.1}, {:.1}",
        rounds[0], rounds[1], rounds[2]
    );
    rounds.iter().all(|t| *t > LIMIT) || rounds.iter().all(|t| *t < -LIMIT)
}

fn points(n: usize) -> Vec<Row> {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    (0..n)
        .map(|_| {
            let mut wide = [0; 64];
            rng.fill_bytes(&mut wide);
            RistrettoPoint::from_uniform_bytes(&wide)
                .compress()
                .to_bytes()
        })
        .collect()
}

/// 2, so that the halved key is 1: the shortest scalar there is, against random ones.
fn wide_scalar(random: bool, rng: &mut ChaCha20Rng) -> [u8; 64] {
    // As many bytes drawn for either class, so that both cost alike up to here.
    let mut wide = [0; 64];
    rng.fill_bytes(&mut wide);
    if !random {
        wide = [0; 64];
        wide[0] = 2;
    }
    wide
}

#[test]
#[ignore = "measures time"]
fn the_session_key_does_not_show_in_time() {
    let rows = points(8);
    for eights in [true, false] {
        let name = if eights {
            "by the key, this processor's best"
        } else {
            "by the key, one at a time"
        };
        let leak = is_leak(name, || {
            measure(
                4_000,
                |random, rng| {
                    let key = Key::from_uniform(&wide_scalar(random, rng)).unwrap();
                    if eights { key } else { key.without_eights() }
                },
                |key| {
                    black_box(key.raise(&rows, 0).unwrap());
                },
            )
        });
        assert!(!leak, "{name}");
    }
}

#[test]
#[ignore = "measures time"]
fn blinded_items_do_not_show_in_time() {
    let hash = HashToGroup::for_context(&[1; 32]).unwrap();
    let key = Key::from_uniform(&[7; 64]).unwrap();
    let leak = is_leak("blind", || {
        measure(
            4_000,
            |random, rng| {
                let mut values = [[0; 32]; 8];
                values.iter_mut().for_each(|v| rng.fill_bytes(v));
                if random { values } else { [[0; 32]; 8] }
            },
            |values| {
                let input = |i: usize| {
                    Ok(Input {
                        head: [0; 3],
                        head_len: 3,
                        rest: Zeroizing::new(values[i].to_vec()),
                    })
                };
                black_box(key.blind(&hash, values.len(), input).unwrap());
            },
        )
    });
    assert!(!leak);
}

#[test]
#[ignore = "measures time"]
fn an_item_of_one_length_does_not_show_in_time() {
    let hash = HashToGroup::for_context(&[1; 32]).unwrap();
    let leak = is_leak("hash to the group", || {
        measure(
            20_000,
            |random, rng| {
                let mut value = [0; 32];
                rng.fill_bytes(&mut value);
                if random { value } else { [0; 32] }
            },
            |value| {
                black_box(hash.point(&[value]));
            },
        )
    });
    assert!(!leak);
}

#[test]
#[ignore = "measures time"]
fn the_responder_s_bits_do_not_show_in_time() {
    let choose = Choose::new();
    let leak = is_leak("choices of base transfers", || {
        measure(
            60,
            |random, rng| {
                let bits = [0; 4].map(|_: u64| rng.next_u64());
                let word = |i: usize| u128::from(bits[i]) << 64 | u128::from(bits[i + 1]);
                if random { [word(0), word(2)] } else { [0, 0] }
            },
            |bits| choose.run(*bits),
        )
    });
    assert!(!leak);
}

#[test]
#[ignore = "measures time"]
fn field_elements_do_not_show_in_time() {
    for kernels in Kernels::all() {
        let values: Vec<u128> = (0..512)
            .map(|i: u128| i.wrapping_mul(u128::MAX / 7))
            .collect();
        let mut sums = vec![0; values.len()];
        let factor = |random: bool, rng: &mut ChaCha20Rng| {
            let drawn = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            if random { drawn } else { 0 }
        };
        let leak = is_leak(&format!("products, {}", kernels.name()), || {
            measure(8_000, factor, |factor| {
                kernels.add_products(black_box(&mut sums), *factor, &values);
            })
        });
        assert!(!leak);
    }
}

/// The test sees what is not constant: the same multiplication by the library's variable-time function.
#[test]
#[ignore = "measures time"]
fn variable_time_is_seen() {
    let point = RistrettoPoint::mul_base(&Scalar::from(77_u64));
    let leak = is_leak("variable time", || {
        measure(
            4_000,
            |random, rng| Scalar::from_bytes_mod_order_wide(&wide_scalar(random, rng)),
            |scalar| {
                black_box(RistrettoPoint::vartime_multiscalar_mul([scalar], [&point]));
            },
        )
    });
    assert!(leak);
}
