//! Rendered records and proofs as JSON, for the admin socket and the command.

use serde_json::{Map, Value, json};
use tally_contracts::ids::MemberId;
use tally_contracts::records::Body;
use tally_evidence::render::{Shown, render};

/// A rendered value as JSON. Numbers stay numbers, what is not said is `null`.
#[must_use]
pub fn shown(value: &Shown) -> Value {
    match value {
        Shown::None => Value::Null,
        Shown::Number(n) => json!(n),
        Shown::Text(text) => json!(text),
        Shown::List(items) => items.iter().map(shown).collect(),
        Shown::Fields(fields) => fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), shown(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// A record's body: what it says in a sentence, and its fields. `name` gives the names of members.
#[must_use]
pub fn body(body: &Body, name: &dyn Fn(&MemberId) -> Option<String>) -> (String, Value) {
    let rendered = render(body, name);
    (rendered.sentence, shown(&rendered.fields))
}
