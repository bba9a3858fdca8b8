//! Many oblivious transfers from 128: Ishai, Kilian, Nissim and Petrank, "Extending oblivious transfers efficiently" (CRYPTO
//! 2003). The receiver's choices are bits of words, transfer i being bit i % 128 of word i / 128. By itself for parties that follow
//! the protocol; [`super::checks`] shows that all columns were made from one vector of choices.

use zeroize::Zeroizing;

use super::prg::Prg;
use crate::Error;

/// Base transfers, and the width of a row.
pub(crate) const WIDTH: usize = 128;

/// The receiver's side: what it sends (column after column, as many words each as `choices`), and its columns, whose [`rows`] give
/// the keys of its choices.
pub(crate) fn receive(base: &[[u128; 2]], choices: &[u128]) -> (Vec<u128>, Zeroizing<Vec<u128>>) {
    let words = choices.len();
    let mut sent = vec![0; WIDTH * words];
    let mut columns = Zeroizing::new(vec![0; WIDTH * words]);
    let mut other = Zeroizing::new(vec![0; words]);
    for ((pair, column), sent) in base
        .iter()
        .zip(columns.chunks_mut(words.max(1)))
        .zip(sent.chunks_mut(words.max(1)))
    {
        Prg::new(pair[0]).fill(column);
        Prg::new(pair[1]).fill(&mut other);
        for (((s, a), b), choice) in sent.iter_mut().zip(column).zip(other.iter()).zip(choices) {
            *s = *a ^ b ^ choice;
        }
    }
    (sent, columns)
}

/// The sender's side: its columns. A transfer's key for side 0 is a hash of its row, for side 1 of the row plus `choices`, its own
/// bits in the base transfers whose keys `base` holds.
///
/// # Errors
/// [`Error::Internal`] unless `received` holds whole columns.
pub(crate) fn send(
    base: &[u128],
    choices: u128,
    received: &[u128],
) -> Result<Zeroizing<Vec<u128>>, Error> {
    let words = received.len() / WIDTH;
    if words * WIDTH != received.len() || base.len() != WIDTH {
        return Err(Error::Internal {
            what: "extension columns",
        });
    }
    let mut columns = Zeroizing::new(vec![0; WIDTH * words]);
    for (((j, key), column), received) in base
        .iter()
        .enumerate()
        .zip(columns.chunks_mut(words.max(1)))
        .zip(received.chunks(words.max(1)))
    {
        Prg::new(*key).fill(column);
        let mask = (choices >> j & 1).wrapping_neg();
        for (c, r) in column.iter_mut().zip(received) {
            *c ^= r & mask;
        }
    }
    Ok(columns)
}

/// A row for each transfer.
pub(crate) fn rows(columns: &[u128]) -> Zeroizing<Vec<u128>> {
    let words = columns.len() / WIDTH;
    let mut rows = Zeroizing::new(Vec::with_capacity(columns.len()));
    let mut square = Zeroizing::new([0; WIDTH]);
    for word in 0..words {
        for (j, s) in square.iter_mut().enumerate() {
            *s = columns[j * words + word];
        }
        transpose(&mut square);
        rows.extend_from_slice(square.as_slice());
    }
    rows
}

/// Bit i of row j becomes bit j of row i: halves are exchanged, then quarters within them, down to bits.
fn transpose(square: &mut [u128; WIDTH]) {
    // Bits whose place has a 0 at the step's digit.
    let mut mask = u128::MAX;
    let mut step = WIDTH / 2;
    while step > 0 {
        mask ^= mask << step;
        for j in (0..WIDTH).filter(|j| j & step == 0) {
            let swapped = (square[j] >> step ^ square[j + step]) & mask;
            square[j + step] ^= swapped;
            square[j] ^= swapped << step;
        }
        step /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u128, n: usize) -> Vec<u128> {
        let mut out = vec![0; n];
        Prg::new(seed).fill(&mut out);
        out
    }

    #[test]
    fn a_square_is_transposed() {
        let before: [u128; WIDTH] = random(1, WIDTH).try_into().unwrap();
        let mut after = before;
        transpose(&mut after);
        for (i, row) in after.iter().enumerate() {
            for (j, column) in before.iter().enumerate() {
                assert_eq!(row >> j & 1, column >> i & 1);
            }
        }
    }

    #[test]
    fn rows_differ_by_the_sender_s_bits_where_the_choice_is_one() {
        let base: Vec<[u128; 2]> = random(2, 256).chunks(2).map(|c| [c[0], c[1]]).collect();
        let delta = 0xfeed_0000_1234_5678_9abc_def0_1357_9bdf;
        let chosen: Vec<u128> = base
            .iter()
            .enumerate()
            .map(|(j, k)| k[(delta >> j & 1) as usize])
            .collect();
        for words in [0, 1, 3, 96] {
            let choices = random(3, words);
            let (sent, theirs) = receive(&base, &choices);
            assert_eq!(sent.len(), WIDTH * words);
            let theirs = rows(&theirs);
            let ours = rows(&send(&chosen, delta, &sent).unwrap());
            assert_eq!(ours.len(), theirs.len());
            for (i, (o, t)) in ours.iter().zip(theirs.iter()).enumerate() {
                let bit = choices[i / WIDTH] >> (i % WIDTH) & 1;
                assert_eq!(*o, t ^ (delta * bit));
            }
        }
        assert!(send(&chosen, delta, &[0; 127]).is_err());
    }
}
