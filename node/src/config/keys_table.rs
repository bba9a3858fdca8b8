//! Every key of `tally.toml` in one table: the generated file, the documentation and the tests read it.

use std::fmt::Write as _;

use tally_contracts::Roles;

use super::Config;

/// One section of the file.
#[derive(Debug, Clone, Copy)]
pub struct SectionDoc {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in order.
    pub keys: &'static [KeyDoc],
}

/// One key of a section.
#[derive(Debug, Clone, Copy)]
pub struct KeyDoc {
    /// Its name.
    pub name: &'static str,
    /// What it means, with its unit.
    pub about: &'static str,
    /// Whether there is no default.
    pub required: bool,
}

const fn key(name: &'static str, about: &'static str) -> KeyDoc {
    KeyDoc {
        name,
        about,
        required: false,
    }
}

const fn required(name: &'static str, about: &'static str) -> KeyDoc {
    KeyDoc {
        name,
        about,
        required: true,
    }
}

const SECTIONS: &[SectionDoc] = &[
    SectionDoc {
        name: "member",
        about: "Who runs this node.",
        keys: &[
            required(
                "name",
                "The member's name in the network: 1 to 32 of a-z, 0-9 and -.",
            ),
            required(
                "roles",
                "What the member does: some of \"brand\", \"platform\", \"media\", \"auditor\".",
            ),
        ],
    },
    SectionDoc {
        name: "node",
        about: "Files, and the node's vote.",
        keys: &[
            key("data_dir", "Data directory, relative to this file."),
            key(
                "passphrase_file",
                "File whose first line opens the keys, relative to this file. Empty: the systemd credential tally-passphrase, the \
                 file named by TALLY_PASSPHRASE_FILE, or a question at the terminal.",
            ),
            key(
                "power",
                "Voting power that the member card asks for; 0 does not vote. Read by `tally init` only.",
            ),
        ],
    },
    SectionDoc {
        name: "consensus",
        about: "The port on which the nodes agree on blocks.",
        keys: &[
            key("listen", "Address to listen on, /ip4/ADDRESS/tcp/PORT."),
            key(
                "advertise",
                "Address in the ledger under which members reach it, /dns4/HOST/tcp/PORT. Empty: the listening address. Read by \
                 `tally init` only.",
            ),
        ],
    },
    SectionDoc {
        name: "swarm",
        about: "The port for records, forwarded scans and matches between members.",
        keys: &[
            key("listen", "Address to listen on, /ip4/ADDRESS/tcp/PORT."),
            key(
                "advertise",
                "Address in the ledger under which members reach it, /dns4/HOST/tcp/PORT. Empty: the listening address. Read by \
                 `tally init` only.",
            ),
        ],
    },
    SectionDoc {
        name: "ledger",
        about: "The ledger, as it is shown to readers.",
        keys: &[
            key(
                "witnesses",
                "External witnesses (C2SP tlog-witness) that are asked to cosign checkpoints, as in [\"VKEY http://HOST:PORT/PREFIX\"]; \
                 at most 8. They need this node's 0x01 key; `tally export tiles` writes it as log.vkey.",
            ),
            key(
                "retain_days",
                "Old blocks and entries are dropped when they are older than this many days and not among the last retain_entries; \
                 tiles, roots, proofs and this member's own records stay. Both 0: nothing is dropped.",
            ),
            key(
                "retain_entries",
                "So many of the last entries are never dropped. Alone, without retain_days, all before them may be.",
            ),
            key(
                "block_file_bytes",
                "A block file is closed when it has reached this many bytes. Old blocks are dropped by whole files: smaller ones are \
                 dropped sooner, and are more.",
            ),
            key(
                "snapshot_hours",
                "A snapshot for newcomers is made and served when the newest is older than this many hours. 0: only by `tally snapshot \
                 save`.",
            ),
        ],
    },
    SectionDoc {
        name: "http",
        about: "The gateway for consumers, shops and operators.",
        keys: &[
            key("listen", "Address to listen on, ADDRESS:PORT."),
            key(
                "base_url",
                "URL printed into codes and written into the ledger, without a final slash.",
            ),
            key(
                "trusted_proxies",
                "Addresses of proxies before this node, as in [\"127.0.0.1\"]. Their X-Forwarded-For is believed: callers are told \
                 apart and slowed down one by one.",
            ),
            key(
                "place_header",
                "Name of the header in which these proxies say where the caller's address is, as in \"X-Client-Place\": a country or nothing, \
                 then \"LATITUDE,LONGITUDE\" or a geohash. It is believed from them alone and cut to scans.cell_length. Empty: scans of the page \
                 have no place, and copies are hardly ever noticed by them.",
            ),
            key(
                "links_file",
                "TOML file with further links for this member's products (GS1 link types), relative to this file. Read at the start. Empty: the \
                 node's own pages alone.",
            ),
            key(
                "operator_token_file",
                "File whose first line is the token for /v1/status and /metrics, sent as Authorization: Bearer; at least 16 \
                 characters, relative to this file. Empty: only callers on this machine, not through a proxy.",
            ),
            key(
                "contact",
                "Where the pages send consumers who doubt a product: https://..., a mail address, or a telephone number with its \
                 country code, as in \"+86 400 123 4567\". Empty: the seller and the brand by name.",
            ),
        ],
    },
    SectionDoc {
        name: "scans",
        about: "The scan log, and the index that says what was scanned first.",
        keys: &[
            key(
                "anchor_every",
                "The scan log is anchored in the ledger after this many scans, or after anchor_interval_ms, whichever comes first.",
            ),
            key(
                "anchor_interval_ms",
                "After this many milliseconds, if there are new scans.",
            ),
            key(
                "cell_length",
                "Characters of geohash that are kept of a place, 0 to 6; what is longer is cut before it is stored. 5 are about 5 \
                 kilometres, 0 keeps no cell.",
            ),
            key(
                "suspect_score",
                "From this score on a code is suspect, in thousandths of a natural logarithm: how much better copies explain its \
                 scans than one pack does. Higher: fewer wrong calls, later notice.",
            ),
            key(
                "retention_days",
                "Scans older than this many days are deleted; their leaves and the counts of their codes stay. 0: never.",
            ),
            key(
                "log_id",
                "Which of the member's scan logs this node keeps: each node of a member needs another number.",
            ),
            key(
                "index",
                "\"embedded\": in this node's files. \"postgres://USER@HOST[:PORT]/DATABASE\": shared by all gateways of the member, so \
                 that only one of them says first.",
            ),
            key(
                "index_password_file",
                "File whose first line is the database's password, relative to this file. Empty: it asks for none.",
            ),
            key(
                "index_key_file",
                "File whose first line is 64 hex digits, the same at every gateway of the member: codes are named, and rows sealed, \
                 under this key. Needed with \"postgres://\" alone.",
            ),
        ],
    },
    SectionDoc {
        name: "match",
        about: "Requests of other members for a match.",
        keys: &[
            key(
                "auto_accept",
                "\"never\": no request of another member is accepted; \"agreed\": what an accepted agreement allows is, with the only \
                 audience that fits it or the one that the request names.",
            ),
            key(
                "idle_timeout_ms",
                "A match in which the other side says nothing for this many milliseconds is aborted; at least 5000.",
            ),
            key(
                "bucket_items",
                "A list with more than twice as many items on one side runs in buckets of at most about so many, 1024 to 1048576; smaller \
                 ones need less memory and give more workers something to do. The other member's node must say the same.",
            ),
        ],
    },
    SectionDoc {
        name: "workers",
        about: "Processes of this member (tally psi worker) that match buckets of its large lists.",
        keys: &[
            key(
                "listen",
                "HOST:PORT where they connect. Empty: there are none, and nothing else here is used.",
            ),
            key(
                "address",
                "HOST:PORT by which they reach that from their machines. Empty: as listen.",
            ),
            key(
                "database",
                "\"postgres://USER@HOST[:PORT]/DATABASE\": where the queue of buckets is.",
            ),
            key(
                "database_password_file",
                "File whose first line is the database's password, relative to this file. Empty: it asks for none.",
            ),
            key(
                "key_file",
                "File whose first line is 64 hex digits, the same at the node and all its workers: the queue and their connections are \
                 sealed under this key.",
            ),
            key(
                "store",
                "Where the node lays the sealed items for them: \"file:///FOLDER\", a folder that all see, or \"s3://BUCKET[/PREFIX]\", with \
                 AWS_ENDPOINT and so on in the environment.",
            ),
            key(
                "patience_ms",
                "After this many milliseconds without a sign of a worker the node does the rest itself.",
            ),
        ],
    },
    SectionDoc {
        name: "log",
        about: "What the process writes to standard error.",
        keys: &[
            key(
                "level",
                "Filter: error, warn, info, debug or trace, also by module, as in \"warn,tally_node=debug\".",
            ),
            key(
                "format",
                "\"text\" for people, \"json\" for machines, one object a line.",
            ),
        ],
    },
    SectionDoc {
        name: "limits",
        about: "How much memory and disk others may make this node use.",
        keys: &[
            key(
                "http_body_bytes",
                "Longest body of an HTTP request, in bytes.",
            ),
            key("http_concurrent", "HTTP requests being answered at a time."),
            key(
                "pool_records",
                "Records waiting for a block; more are refused.",
            ),
            key("pool_bytes", "Bytes of records waiting for a block."),
            key(
                "state_cache_bytes",
                "Memory for the state store and its tree, in bytes; they may take up to twice as much.",
            ),
            key(
                "swarm_streams_per_peer",
                "Streams that one peer may have open, 8 to 120.",
            ),
            key(
                "disk_reserve_bytes",
                "With less free disk than this many bytes, the node takes no more scans and records.",
            ),
        ],
    },
];

/// Every section and key, in the order of the generated file.
#[must_use]
pub fn documentation() -> &'static [SectionDoc] {
    SECTIONS
}

const WIDTH: usize = 120;

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

pub(super) fn render(config: &Config) -> String {
    // A configuration has nothing that TOML cannot hold.
    let table = |c: &Config| toml::Table::try_from(c).unwrap_or_default();
    let (values, defaults) = (table(config), table(&Config::new("name", Roles::BRAND)));
    let value = |table: &toml::Table, section: &str, key: &str| {
        table
            .get(section)
            .and_then(|s| s.get(key))
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let mut out = String::new();
    comment(
        &mut out,
        "The configuration of one tally node. Every key is here; one that is left out has its default; one that is not known \
         is an error. `tally config show` prints what is in force.",
    );
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.about);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "[{}]", section.name);
        for key in section.keys {
            let default = if key.required {
                "(required)".to_owned()
            } else {
                format!("Default: {}", value(&defaults, section.name, key.name))
            };
            comment(&mut out, &format!("{} {default}", key.about));
            let _ = writeln!(
                out,
                "{} = {}",
                key.name,
                value(&values, section.name, key.name)
            );
        }
    }
    out
}
