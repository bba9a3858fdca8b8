//! Hosts of the member swarm on loopback. One program: each that links the transport takes long to build.

mod common;
mod garbage;
mod members;
mod requests;
