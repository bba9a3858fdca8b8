//! Founding a network, and joining it: the same steps on one machine or on many.
//!
//! 1. Each founder runs [`init`]: a data directory with keys and `tally.toml`, and a [`MemberCard`] to hand around.
//! 2. One of them makes the genesis from all cards ([`draw_up`]) and hands it around.
//! 3. Each founder reads it ([`describe`]) and signs it with its administrator's key ([`sign`]); files that were signed
//!    apart are put together ([`merge`]).
//! 4. Each founder runs [`join`], which checks every signature, that the own card stands in it unchanged, and the network
//!    ID if one was told; then the node can be started.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rand_core::{CryptoRng, RngCore};
use tally_contracts::ids::{MemberId, NetworkId};
use tally_contracts::{Genesis, GenesisFile, MemberEntry, NetworkKind, NodeEntry, Rules};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::card::{CardError, MAX_CARD_BYTES, MemberCard};
use crate::config::{Config, ConfigError, DataDir};
use crate::files::{FileError, create_private_dir, parent, read_bounded, sync_dir, write_atomic};
use crate::keys::{AdminKey, KeyError, KeyStore, NodeKeys, NodePublicKeys};
use crate::passphrase::Passphrase;

/// The longest genesis file: one entry and its signatures.
const MAX_GENESIS_FILE_BYTES: usize = 128 << 10;

/// Why a step of the founding is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The genesis.
    #[error("genesis: {0}")]
    Genesis(#[from] tally_contracts::Error),
    /// `init` on a directory that is in use.
    #[error(
        "{path} is not empty, and `init` never changes an existing node: start it with `tally up --config {path}/tally.toml`, \
         or name another directory"
    )]
    Initialised {
        /// The directory.
        path: PathBuf,
    },
    /// A node of another member, or with other roles.
    #[error("the card of the further node is of {found}, expected {expected} with the same roles")]
    OtherMember {
        /// The own member.
        expected: String,
        /// The member of the card.
        found: String,
    },
    /// Two cards of one member.
    #[error("there are two cards for member {name}")]
    DuplicateCard {
        /// The member's name.
        name: String,
    },
    /// Nothing to merge.
    #[error("no genesis file was given")]
    NoFile,
    /// A genesis of another network.
    #[error("the genesis is of network {found}, expected {expected}")]
    Network {
        /// The ID expected.
        expected: NetworkId,
        /// The ID found.
        found: NetworkId,
    },
    /// The own member is not in the genesis.
    #[error(
        "member {name} does not stand in the genesis: hand your card to whoever draws it up; in a network that runs, have a \
         member propose it (`tally change propose admit`) and join with `--newcomer`"
    )]
    NotAMember {
        /// The own name.
        name: String,
    },
    /// The node of this card founded the network.
    #[error("the node of this card founded the network for {name}: join without `--newcomer`")]
    Founder {
        /// The own name.
        name: String,
    },
    /// The genesis has another entry for the own member than the own card.
    #[error(
        "the genesis has another entry for {name} than the own card: {what} differs; do not sign, ask who drew it up"
    )]
    Altered {
        /// The own name.
        name: String,
        /// What differs first.
        what: &'static str,
    },
    /// A data directory without a genesis.
    #[error(
        "{path} has no genesis yet: run `tally join` with the file that all founders have signed"
    )]
    NotJoined {
        /// The data directory.
        path: PathBuf,
    },
    /// The node's keys are not in the ledger.
    #[error("the node's keys are not those of {name} in the ledger; was the keys folder replaced?")]
    ForeignKeys {
        /// The member's name.
        name: String,
    },
}

/// A directory that [`init`] made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The data directory.
    pub dir: DataDir,
    /// The card, also written to [`DataDir::card_file`].
    pub card: MemberCard,
}

/// Makes a node's data directory: keys under `passphrase`, `tally.toml` with `config`, the member card, empty folders. It
/// appears as a whole or not at all. `work_factor` is as in [`KeyStore::create`].
///
/// # Errors
/// [`CeremonyError::Initialised`] if `root` exists and is not empty; [`CeremonyError::Config`], [`CeremonyError::Card`],
/// [`CeremonyError::Key`], [`CeremonyError::File`].
pub fn init(
    root: &Path,
    config: &Config,
    passphrase: &Passphrase,
    work_factor: u8,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Initialised, CeremonyError> {
    let occupied = fs::read_dir(root).is_ok_and(|mut d| d.next().is_some());
    if occupied || root.is_file() {
        return Err(CeremonyError::Initialised {
            path: root.to_owned(),
        });
    }
    let dir = DataDir::new(root);
    config.check(&dir.config_file())?;
    let (node, admin) = (NodeKeys::generate(rng), AdminKey::generate(rng));
    let card = MemberCard::sign(entry_of(config, &node.public(), &admin)?, &admin)?;
    let text = card.to_text()?;

    let mut making = root.as_os_str().to_owned();
    making.push(format!(".{}.init", std::process::id()));
    let making = DataDir::new(making);
    let made = (|| {
        create_private_dir(making.root())?;
        for folder in DataDir::FOLDERS {
            create_private_dir(&making.root().join(folder))?;
        }
        KeyStore::new(making.keys()).create(passphrase, work_factor, &node, &admin)?;
        write_atomic(&making.card_file(), text.as_bytes(), 0o644)?;
        write_atomic(&making.config_file(), config.to_text().as_bytes(), 0o644)?;
        // An empty directory is replaced, any other refused.
        fs::rename(making.root(), root).map_err(FileError::new("create", root))?;
        Ok::<_, CeremonyError>(sync_dir(parent(root))?)
    })();
    if made.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = fs::remove_dir_all(making.root());
    }
    made?;
    Ok(Initialised { dir, card })
}

fn entry_of(
    config: &Config,
    public: &NodePublicKeys,
    admin: &AdminKey,
) -> Result<MemberEntry, CeremonyError> {
    let node = NodeEntry {
        transport: public.transport,
        consensus: public.consensus,
        checkpoint: public.checkpoint,
        cosignature: public.cosignature,
        records: public.records,
        power: config.node.power,
        consensus_addr: config.consensus.public().to_owned(),
        swarm_addr: config.swarm.public().to_owned(),
        http_url: config.http.base_url.clone(),
    };
    let roles = config.roles().ok_or_else(|| CardError::Roles {
        found: config.member.roles.clone(),
    })?;
    Ok(MemberEntry::new(
        &config.member.name,
        roles,
        vec![admin.public()],
        vec![node],
    )?)
}

/// Takes the nodes of `further`, the card that [`init`] made on another machine for the same member, into the own card, and signs that anew. It
/// must then replace the card in the other machine's directory too, and be the one that the genesis is drawn up from.
///
/// # Errors
/// [`CeremonyError::OtherMember`], [`CeremonyError::Card`] (a node that is there already), [`CeremonyError::File`].
pub fn add_node(
    dir: &DataDir,
    further: &MemberCard,
    admin: &AdminKey,
) -> Result<MemberCard, CeremonyError> {
    let own = read_card(&dir.card_file())?;
    let (mut entry, other) = (own.entry().clone(), further.entry());
    if entry.name != other.name || entry.roles != other.roles {
        return Err(CeremonyError::OtherMember {
            expected: entry.name,
            found: other.name.clone(),
        });
    }
    entry.nodes.extend(other.nodes.iter().cloned());
    let card = MemberCard::sign(entry, admin)?;
    write_atomic(&dir.card_file(), card.to_text()?.as_bytes(), 0o644)?;
    Ok(card)
}

/// Makes a second administrator's key, seals it under the passphrase into `file`, which is to be kept away from the node, and
/// takes its public half into the own card. With it the member can vote after it has lost the first, and have that replaced.
///
/// # Errors
/// [`CeremonyError::Key`] (`file` is there already, and nothing is changed), [`CeremonyError::Card`], [`CeremonyError::File`].
pub fn add_recovery(
    dir: &DataDir,
    file: &Path,
    passphrase: &Passphrase,
    work_factor: u8,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<MemberCard, CeremonyError> {
    let admin = KeyStore::new(dir.keys()).open_admin(passphrase)?;
    let recovery = AdminKey::generate(rng);
    let mut entry = read_card(&dir.card_file())?.entry().clone();
    entry.admin_keys.push(recovery.public());
    let card = MemberCard::sign(entry, &admin)?;
    // The key first: a card must not name one that nobody has.
    KeyStore::create_recovery(file, passphrase, work_factor, &recovery)?;
    write_atomic(&dir.card_file(), card.to_text()?.as_bytes(), 0o644)?;
    Ok(card)
}

/// Reads a card and verifies its signature.
///
/// # Errors
/// [`CeremonyError::File`], [`CeremonyError::Card`].
pub fn read_card(path: &Path) -> Result<MemberCard, CeremonyError> {
    let bytes = read_bounded(path, MAX_CARD_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| CardError::Parse {
        reason: "not UTF-8 text".into(),
    })?;
    Ok(MemberCard::parse(&text)?)
}

/// Makes the genesis of a network from its founders' cards, unsigned. `created_ms` is the time now, in POSIX milliseconds.
///
/// # Errors
/// [`CeremonyError::DuplicateCard`], [`CeremonyError::Genesis`] (keys or addresses that repeat, nobody who votes, and so on).
pub fn draw_up(
    name: &str,
    kind: NetworkKind,
    created_ms: u64,
    rules: Rules,
    cards: &[MemberCard],
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<GenesisFile, CeremonyError> {
    let mut names = BTreeSet::new();
    for card in cards {
        if !names.insert(&card.entry().name) {
            return Err(CeremonyError::DuplicateCard {
                name: card.entry().name.clone(),
            });
        }
    }
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    let members = cards.iter().map(|c| c.entry().clone()).collect();
    let genesis = Genesis::new(name, kind, created_ms, nonce, rules, members)?;
    Ok(GenesisFile::new(genesis)?)
}

/// Reads a genesis file and checks the document and the signatures that are there; some may be missing.
///
/// # Errors
/// [`CeremonyError::File`], [`CeremonyError::Genesis`].
pub fn read_genesis(path: &Path) -> Result<GenesisFile, CeremonyError> {
    Ok(GenesisFile::from_bytes(&read_bounded(
        path,
        MAX_GENESIS_FILE_BYTES,
    )?)?)
}

/// Writes a genesis file.
///
/// # Errors
/// [`CeremonyError::File`].
pub fn write_genesis(path: &Path, file: &GenesisFile) -> Result<(), CeremonyError> {
    Ok(write_atomic(path, &file.to_bytes(), 0o644)?)
}

/// Signs a genesis with the administrator's key of the data directory's member, after checking that the own card stands in
/// it unchanged.
///
/// # Errors
/// [`CeremonyError::NotAMember`], [`CeremonyError::Altered`], [`CeremonyError::Network`], [`CeremonyError::Genesis`].
pub fn sign(
    file: &mut GenesisFile,
    own: &MemberCard,
    admin: &AdminKey,
    expected: Option<NetworkId>,
) -> Result<MemberId, CeremonyError> {
    check_network(file, expected)?;
    check_own(file.genesis(), own)?;
    Ok(file.sign(&admin.signing())?)
}

/// Puts the signatures of several copies of one genesis together.
///
/// # Errors
/// [`CeremonyError::NoFile`], [`CeremonyError::Network`] if they are not of one network, [`CeremonyError::Genesis`].
pub fn merge(files: Vec<GenesisFile>) -> Result<GenesisFile, CeremonyError> {
    let mut files = files.into_iter();
    let mut all = files.next().ok_or(CeremonyError::NoFile)?;
    for file in files {
        check_network(&file, Some(all.network_id()))?;
        for signature in file.signatures() {
            all.add(signature.clone())?;
        }
    }
    Ok(all)
}

/// Checks a genesis that every founder has signed and puts it into the data directory. Joining the same network again
/// changes nothing.
///
/// # Errors
/// [`CeremonyError::Network`] if it is not the network expected, or another was joined before;
/// [`CeremonyError::Genesis`] if a signature is missing or wrong; [`CeremonyError::NotAMember`],
/// [`CeremonyError::Altered`], [`CeremonyError::File`].
pub fn join(
    dir: &DataDir,
    file: &GenesisFile,
    expected: Option<NetworkId>,
) -> Result<NetworkId, CeremonyError> {
    check_network(file, expected)?;
    file.verify()?;
    check_own(file.genesis(), &read_card(&dir.card_file())?)?;
    take_over(dir, file)
}

/// As [`join`], for a node that was not there at the founding: it follows the ledger as soon as the members have let its card in, as
/// a new member, as one more node of a member, or in the place of a lost node.
///
/// # Errors
/// As [`join`], and [`CeremonyError::Founder`] if the very card stands in the genesis.
pub fn join_later(
    dir: &DataDir,
    file: &GenesisFile,
    expected: NetworkId,
) -> Result<NetworkId, CeremonyError> {
    check_network(file, Some(expected))?;
    file.verify()?;
    let card = read_card(&dir.card_file())?;
    let name = &card.entry().name;
    if file.genesis().member_by_name(name) == Some(card.entry()) {
        return Err(CeremonyError::Founder { name: name.clone() });
    }
    take_over(dir, file)
}

fn take_over(dir: &DataDir, file: &GenesisFile) -> Result<NetworkId, CeremonyError> {
    match load_genesis(dir) {
        Ok(joined) => check_network(file, Some(joined.network_id()))?,
        Err(CeremonyError::NotJoined { .. }) => write_genesis(&dir.genesis_file(), file)?,
        Err(e) => return Err(e),
    }
    Ok(file.network_id())
}

/// The genesis that the data directory joined, every signature checked again.
///
/// # Errors
/// [`CeremonyError::NotJoined`], [`CeremonyError::Genesis`], [`CeremonyError::File`].
pub fn load_genesis(dir: &DataDir) -> Result<GenesisFile, CeremonyError> {
    match read_genesis(&dir.genesis_file()) {
        Ok(file) => {
            file.verify()?;
            Ok(file)
        }
        Err(CeremonyError::File(e)) if e.is_missing() => Err(CeremonyError::NotJoined {
            path: dir.root().to_owned(),
        }),
        Err(e) => Err(e),
    }
}

fn check_network(file: &GenesisFile, expected: Option<NetworkId>) -> Result<(), CeremonyError> {
    let found = file.network_id();
    match expected {
        Some(expected) if expected != found => Err(CeremonyError::Network { expected, found }),
        _ => Ok(()),
    }
}

fn check_own(genesis: &Genesis, own: &MemberCard) -> Result<(), CeremonyError> {
    let own = own.entry();
    let name = || own.name.clone();
    let found = genesis
        .member_by_name(&own.name)
        .ok_or_else(|| CeremonyError::NotAMember { name: name() })?;
    let differs = [
        (found.admin_keys != own.admin_keys, "an administrator's key"),
        (found.id != own.id, "the member ID"),
        (found.roles != own.roles, "the roles"),
        (
            found.nodes != own.nodes,
            "a node's keys, power or addresses",
        ),
        (found != own, "something"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, what)) => Err(CeremonyError::Altered { name: name(), what }),
        None => Ok(()),
    }
}

/// A moment in UTC, or as milliseconds where a calendar has none.
fn utc(ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms POSIX"))
}

/// Milliseconds in the largest unit that tells them exactly.
fn duration(ms: u64) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute")];
    for (unit, name) in units {
        if ms >= unit && ms.is_multiple_of(unit) {
            let count = ms / unit;
            return format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        }
    }
    if ms >= 1000 && ms.is_multiple_of(1000) {
        return format!("{} s", ms / 1000);
    }
    format!("{ms} ms")
}

/// What a genesis says, for a founder to read before signing.
#[must_use]
pub fn describe(file: &GenesisFile) -> String {
    let genesis = file.genesis();
    let rules = &genesis.rules;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "network     {} ({})",
        genesis.name,
        genesis.kind.name()
    );
    let _ = writeln!(out, "network ID  {}", file.network_id());
    let _ = writeln!(out, "created     {}", utc(genesis.created_ms));
    let _ = writeln!(
        out,
        "rules       version {}, heartbeat {}, epoch {}, block at most {} bytes and {} records, clock skew {}",
        rules.rules_version,
        duration(rules.heartbeat_ms),
        duration(rules.epoch_ms),
        rules.max_block_bytes,
        rules.max_block_records,
        duration(rules.max_skew_ms)
    );
    for member in &genesis.members {
        let signed = file.signatures().iter().any(|s| s.member == member.id);
        let signed = if signed { "signed" } else { "NOT SIGNED" };
        let _ = writeln!(
            out,
            "member      {} ({}) {signed}",
            member.name, member.roles
        );
        let _ = writeln!(out, "            ID {}", member.id);
        for key in &member.admin_keys {
            let _ = writeln!(out, "            administrator {key}");
        }
        for node in &member.nodes {
            let _ = writeln!(
                out,
                "            node power {}, consensus {}, swarm {}, http {}",
                node.power,
                node.consensus_addr,
                node.swarm_addr,
                if node.http_url.is_empty() {
                    "none"
                } else {
                    &node.http_url
                }
            );
        }
    }
    let missing = file.missing();
    let _ = if missing.is_empty() {
        writeln!(
            out,
            "complete    every founder has signed; next: `tally join` on each node"
        )
    } else {
        writeln!(out, "incomplete  not signed by: {}", missing.join(", "))
    };
    out
}

#[cfg(test)]
mod tests;
