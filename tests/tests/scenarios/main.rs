//! Scenarios over whole networks that bear a neighbour: one program, so that two of them run at once (each mostly waits), and the node is
//! linked once. What measures time, or may not be slowed, is in `timed`.

mod attribution;
mod auditor;
mod browser;
mod byzantine;
mod canary;
mod clock_skew;
mod deploy;
mod disk_full;
mod founding;
mod governance;
mod kill9_under_load;
mod live_witness;
mod observability;
mod overlap;
mod printing;
mod public_verifiers;
mod recovery_key;
mod refusals;
mod refused_matches;
mod restore;
mod retention;
mod snapshot;
mod torn_tails;
mod trade;
mod two_gateways;
mod verifier_overlaps;
mod verifier_page;
mod webdriver;
mod workers;
