//! The program itself, as a shell starts it. That this test is here also has `cargo test` build the program beside everything else, and not
//! when the first scenario asks for it, while nothing else is to be done.

use std::process::Command;

fn tally(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_tally"))
        .args(args)
        .env_remove("TALLY_CONFIG")
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn it_says_what_it_is() {
    let (code, out, err) = tally(&["--version"]);
    let version = format!("tally {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(code, Some(0));
    assert!(out.starts_with(&version) && err.is_empty(), "{out}{err}");
}

#[test]
fn an_unknown_command_is_a_wrong_use() {
    let (code, out, err) = tally(&["no-such-command"]);
    assert_eq!(code, Some(2));
    assert!(out.is_empty() && err.contains("no-such-command"), "{err}");
}
