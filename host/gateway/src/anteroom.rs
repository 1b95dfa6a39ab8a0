//! Where an agent that nobody has approved yet waits: it proved who it is, is told why it waits, and gets its
//! WELCOME on the same socket as soon as it is let in.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use wire::frame::{Fault, Hello, HostFrame};

use crate::handshake::{self, Greeted, goodbye};
use crate::room::Gateway;

/// Between two PENDING, and two looks at the store: another host may have approved the agent.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Waits until the agent is let in, or is not to be any more, or goes. `None`: the socket is to be dropped.
pub async fn wait(gateway: &Gateway, socket: &mut WebSocket, hello: Hello) -> Option<Greeted> {
    let agent = hello.agent_id;
    tracing::info!(%agent, "an agent waits for approval");
    let farewell = match stay(gateway, socket, &hello).await {
        Stay::LetIn => match handshake::open(gateway, hello).await {
            Ok(greeted) => return handshake::welcome(gateway, socket, greeted).await,
            Err(farewell) => *farewell,
        },
        Stay::Gone => return None,
        Stay::Over(frame) => frame,
    };
    tracing::info!(%agent, ?farewell, "the agent does not wait any more");
    _ = handshake::send(socket, &farewell).await;
    _ = socket.close().await;
    None
}

/// How a stay ended.
enum Stay {
    LetIn,
    Gone,
    Over(HostFrame),
}

async fn stay(gateway: &Gateway, socket: &mut WebSocket, hello: &Hello) -> Stay {
    let Ok(_place) = gateway.anteroom.try_acquire() else {
        return Stay::Over(goodbye("many agents wait for approval; come again"));
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        // Made before the look, so that nothing happens unseen between the two.
        let changed = gateway.directory.changed();
        match gateway.directory.get(hello.agent_id).map(|known| known.agent) {
            Some(agent) if agent.revoked_at.is_some() => return Stay::Over(HostFrame::Error(handshake::revoked())),
            Some(agent) if !agent.awaits_approval => return Stay::LetIn,
            Some(_) | None => {}
        }
        tokio::select! {
            () = changed => {}
            _ = look.tick() => {
                if let Err(error) = gateway.enrol.look_up(hello.agent_id).await {
                    tracing::debug!(%error, "whether an agent was approved could not be read; looking again");
                }
                let message = "waits for approval by an operator: viworks agent approve".to_owned();
                if !handshake::send(socket, &HostFrame::Pending { message }).await {
                    return Stay::Gone;
                }
            }
            said = said(socket) => match said {
                None => return Stay::Gone,
                Some(fault) => return Stay::Over(HostFrame::Error(fault)),
            },
            () = gateway.stop.cancelled() => return Stay::Over(goodbye("the host is leaving")),
        }
    }
}

/// Waits until the agent is gone, or says what it may not say yet.
async fn said(socket: &mut WebSocket) -> Option<Fault> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                let message = "nothing is said between HELLO and WELCOME".to_owned();
                return Some(Fault { code: "unexpected_frame".to_owned(), message });
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        }
    }
}
