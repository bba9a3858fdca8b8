//! Links of one node that can go dead, or carry what it says alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::TestNetwork;

/// All links of one node, both ways.
#[derive(Clone, Default)]
pub struct Links {
    next: Arc<AtomicU64>,
    /// Connections with a smaller number are dead.
    dead_below: Arc<AtomicU64>,
    deaf: Arc<AtomicBool>,
}

impl Links {
    /// Puts itself between a node and all others, before they start.
    pub async fn of(net: &mut TestNetwork, node: usize) -> Self {
        let links = Self::default();
        for other in (0..net.nodes.len()).filter(|other| *other != node) {
            let port = links.lead(net.nodes[other].port, true).await;
            net.routes.insert((node, other), port);
            let port = links.lead(net.nodes[node].port, false).await;
            net.routes.insert((other, node), port);
        }
        links
    }

    /// From now on what is sent over the connections that stand is not taken any more, and nothing is closed. New connections pass.
    pub fn cut(&self) {
        let all = self.next.load(Ordering::SeqCst);
        self.dead_below.store(all, Ordering::SeqCst);
    }

    /// From now on the node hears nothing, and is heard all the same.
    pub fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Leads a new port to one of the loopback, for the connections that the node makes or takes.
    async fn lead(&self, to: u16, node_dials: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let links = self.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let links = links.clone();
                tokio::spawn(async move {
                    let Ok(to) = TcpStream::connect(("127.0.0.1", to)).await else {
                        return;
                    };
                    let number = links.next.fetch_add(1, Ordering::SeqCst);
                    let ((a, b), (c, d)) = (from.into_split(), to.into_split());
                    tokio::select! {
                        () = links.pass(number, a, d, !node_dials) => {}
                        () = links.pass(number, c, b, node_dials) => {}
                    }
                });
            }
        });
        port
    }

    async fn pass(
        &self,
        number: u64,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        to_node: bool,
    ) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await;
            if number < self.dead_below.load(Ordering::SeqCst) {
                // Neither end hears of the other again.
                std::future::pending::<()>().await;
            }
            match read {
                Ok(n) if n > 0 => {
                    let is_lost = to_node && self.deaf.load(Ordering::SeqCst);
                    if !is_lost && to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}
