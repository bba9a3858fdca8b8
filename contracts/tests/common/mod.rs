//! A network of four members in memory, with keys from fixed seeds.
#![allow(dead_code)]

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use tally_contracts::ids::{MemberId, NetworkId, PublicKey};
use tally_contracts::records::Body;
use tally_contracts::state::{self, MemoryState};
use tally_contracts::{
    ApplyError, Context, Genesis, GenesisFile, MemberEntry, NetworkKind, NodeEntry, Record,
    Refusal, Roles, Rules, Signer, Unsigned, check_and_apply, due_changes, genesis_effects,
};

pub(crate) const START_MS: u64 = 1_790_000_000_000;
pub(crate) const EPOCH_MS: u64 = 86_400_000;
pub(crate) const NAMES: [(&str, Roles, u64); 4] = [
    ("brand", Roles::BRAND, 1),
    ("platform", Roles::PLATFORM, 1),
    ("media", Roles::MEDIA, 1),
    ("auditor", Roles::AUDITOR, 1),
];

pub(crate) fn key(member: &str, key_use: &str) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(format!("test key {member} {key_use}")).into())
}

pub(crate) fn public(member: &str, key_use: &str) -> PublicKey {
    PublicKey::from(&key(member, key_use))
}

pub(crate) fn entry(name: &str, roles: Roles, power: u64) -> MemberEntry {
    let node = NodeEntry {
        transport: public(name, "transport"),
        consensus: public(name, "consensus"),
        checkpoint: public(name, "checkpoint"),
        cosignature: public(name, "cosignature"),
        records: public(name, "records"),
        power,
        consensus_addr: format!("/dns4/{name}.example/tcp/7000"),
        swarm_addr: format!("/dns4/{name}.example/tcp/7001"),
        http_url: format!("https://{name}.example"),
    };
    MemberEntry::new(name, roles, vec![public(name, "admin")], vec![node]).unwrap()
}

pub(crate) fn genesis(kind: NetworkKind) -> Genesis {
    let rules = Rules {
        epoch_ms: EPOCH_MS,
        ..Rules::default()
    };
    let members = NAMES.map(|(n, r, p)| entry(n, r, p)).to_vec();
    Genesis::new("Example network", kind, START_MS, [7; 32], rules, members).unwrap()
}

pub(crate) fn signed_genesis(kind: NetworkKind) -> GenesisFile {
    let mut file = GenesisFile::new(genesis(kind)).unwrap();
    for (name, ..) in NAMES {
        file.sign(&key(name, "admin")).unwrap();
    }
    file
}

pub(crate) struct Net {
    pub(crate) genesis: Genesis,
    pub(crate) state: MemoryState,
    pub(crate) ctx: Context,
}

impl Net {
    pub(crate) fn new(kind: NetworkKind) -> Self {
        let genesis = genesis(kind);
        let mut state = MemoryState::new();
        state.apply(genesis_effects(&genesis));
        let ctx = Context {
            network: genesis.network_id(),
            height: 1,
            block_time_ms: START_MS + EPOCH_MS / 2,
        };
        Self {
            genesis,
            state,
            ctx,
        }
    }

    pub(crate) fn network(&self) -> NetworkId {
        self.ctx.network
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.ctx.block_time_ms / EPOCH_MS
    }

    pub(crate) fn member(&self, name: &str) -> MemberId {
        self.genesis.member_by_name(name).unwrap().id
    }

    pub(crate) fn nonce(&self, name: &str, key_use: &str) -> u64 {
        let signer = Signer::new(self.member(name), &public(name, key_use), 0);
        state::key_state(&self.state, &signer.member, &signer.key)
            .unwrap()
            // A key that members have rotated away signs what is refused.
            .map_or(0, |key| key.next_nonce)
    }

    pub(crate) fn unsigned(&self, body: &Body, signers: &[(&str, &str)]) -> Unsigned {
        let signers = signers
            .iter()
            .map(|(n, u)| Signer::new(self.member(n), &public(n, u), self.nonce(n, u)))
            .collect();
        Unsigned::new(
            self.network(),
            self.ctx.block_time_ms + 60_000,
            signers,
            body,
        )
    }

    pub(crate) fn record(&self, body: impl Into<Body>, signers: &[(&str, &str)]) -> Record {
        let unsigned = self.unsigned(&body.into(), signers);
        sign(&unsigned, signers)
    }

    /// Carries out a record; gives its refusal.
    pub(crate) fn submit(&mut self, record: &Record) -> Result<(), Refusal> {
        let before = self.state.clone();
        match check_and_apply(&self.state, record, &self.ctx) {
            Ok(effects) => {
                assert!(effects.is_sorted_by(|a, b| a.0 < b.0));
                self.state.apply(effects);
                Ok(())
            }
            Err(ApplyError::Refused(refusal)) => {
                assert_eq!(self.state, before);
                Err(refusal)
            }
            Err(ApplyError::State(e)) => panic!("{e}"),
        }
    }

    /// What the end of the block does: changes that have passed come into force. The next block is a second later.
    pub(crate) fn end_block(&mut self) {
        self.ctx.height += 1;
        self.ctx.block_time_ms += 1_000;
        let due = due_changes(&self.state, self.ctx.height).unwrap();
        self.state.apply(due);
    }

    /// A record by the members' record keys.
    pub(crate) fn by(&mut self, names: &[&str], body: impl Into<Body>) -> Result<(), Refusal> {
        let signers: Vec<_> = names.iter().map(|n| (*n, "records")).collect();
        let record = self.record(body, &signers);
        self.submit(&record)
    }

    /// A record by an administrator.
    pub(crate) fn by_admin(&mut self, name: &str, body: impl Into<Body>) -> Result<(), Refusal> {
        let record = self.record(body, &[(name, "admin")]);
        self.submit(&record)
    }
}

pub(crate) fn sign(unsigned: &Unsigned, signers: &[(&str, &str)]) -> Record {
    let keys: Vec<_> = signers.iter().map(|(n, u)| key(n, u)).collect();
    unsigned.sign(&keys.iter().collect::<Vec<_>>()).unwrap()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}
