//! The member swarm's frames and both ends of its requests, over a stream that says anything.
//!
//! An input is a byte, how many bytes come at a time, and what comes.

use std::time::Duration;

use tally_swarm::fuzzing::{answer, ask};
use tally_swarm::{Error, ServeLimits, read_frame, write_frame};

use crate::bytes::Bytes;
use crate::stream::{Peer, block_on};
use crate::{Seeds, named};

const LIMIT: Duration = Duration::from_secs(5);
const MAX: usize = 256;

async fn frames(mut peer: Peer) {
    while let Ok(body) = read_frame(&mut peer, MAX, LIMIT).await {
        assert!(body.len() <= MAX);
        let mut wire = Vec::new();
        write_frame(&mut wire, &body, LIMIT).await.expect("memory");
        let again = read_frame(&mut wire.as_slice(), MAX, LIMIT).await;
        assert_eq!(again, Ok(body));
    }
}

/// Reads an input as frames, as an answer, and as a request.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let step = usize::from(input.u8() % 64) + 1;
    let peer = || Peer::new(input.0, step);
    let limits = ServeLimits {
        max_request_bytes: MAX,
        max_response_bytes: MAX / 2,
        max_concurrent_per_peer: 1,
        deadline: LIMIT,
    };
    block_on(async {
        frames(peer()).await;
        match ask(peer(), b"request", MAX, LIMIT).await {
            Ok(answer) => assert!(answer.len() <= MAX),
            Err(Error::Deadline { .. }) => panic!("nothing waits here"),
            Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
        }
        let outcome = answer(&mut peer(), &limits).await;
        let known = [
            "ok",
            "refused",
            "not_read",
            "request_too_large",
            "answer_too_large",
        ];
        assert!(known.contains(&outcome), "{outcome}");
    });
}

/// Two frames; an answer of each status.
pub fn seeds() -> Seeds {
    let frame = |body: &[u8]| {
        let mut wire = Vec::new();
        block_on(write_frame(&mut wire, body, LIMIT)).expect("memory");
        wire
    };
    let two = [frame(b"abc"), frame(b"")].concat();
    let mut out = named([
        ("frames", [&[63], &two[..]].concat()),
        ("request-long", [&[63], &frame(&[1; 200])[..]].concat()),
        ("request-too-long", [&[63], &frame(&[1; 300])[..]].concat()),
    ]);
    for status in 0..=6_u8 {
        let answer = [&[7, status], &frame(b"\0\0\x01\0")[..]].concat();
        out.push((format!("answer-{status}"), answer));
    }
    out
}
