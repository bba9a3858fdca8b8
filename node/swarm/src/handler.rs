//! One connection's streams: opens those asked for, hands over those that the peer opens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::{Ready, ready};
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
};
use libp2p::{Stream, StreamProtocol};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Error;
use crate::shared::{Link, Shared};
use crate::stream::PeerStream;

/// A stream to open. The permit lives until the negotiation ends, also when nobody waits for it any more, so that a peer
/// which never answers cannot pile them up.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) protocol: StreamProtocol,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) reply: oneshot::Sender<Result<PeerStream, Error>>,
}

/// Offers every protocol that this host takes.
#[derive(Debug, Clone)]
pub(crate) struct Offered(Arc<[StreamProtocol]>);

impl UpgradeInfo for Offered {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Offered {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

pub(crate) struct Handler {
    shared: Arc<Shared>,
    link: Arc<Link>,
    queue: VecDeque<Open>,
    waker: Option<Waker>,
}

impl Handler {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<Link>) -> Self {
        Self {
            shared,
            link,
            queue: VecDeque::new(),
            waker: None,
        }
    }

    fn failed(&self, open: Open, error: &StreamUpgradeError<Infallible>) {
        let peer = self.link.label();
        let error = match error {
            StreamUpgradeError::Timeout => Error::Deadline {
                what: "opening a stream",
                limit: self.shared.limits.write_timeout,
            },
            StreamUpgradeError::NegotiationFailed => Error::Unsupported {
                peer,
                protocol: open.protocol.to_string(),
            },
            StreamUpgradeError::Io(_) => Error::Cut { peer },
            StreamUpgradeError::Apply(never) => match *never {},
        };
        // Whoever asked may have stopped waiting.
        let _ = open.reply.send(Err(error));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offered;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Offered> {
        SubstreamProtocol::new(Offered(self.shared.protocols()), ())
            .with_timeout(self.shared.limits.write_timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Open, Infallible>> {
        while let Some(open) = self.queue.pop_front() {
            if open.reply.is_closed() {
                continue;
            }
            let upgrade = ReadyUpgrade::new(open.protocol.clone());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(upgrade, open)
                    .with_timeout(self.shared.limits.write_timeout),
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.queue.push_back(open);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Offered, ReadyUpgrade<StreamProtocol>, (), Open>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.shared.inbound(&self.link, protocol.as_ref(), stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: open,
            }) => {
                let stream = PeerStream::new(stream, self.link.clone(), open.permit);
                let _ = open.reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                self.failed(info, &error);
            }
            _ => {}
        }
    }
}
