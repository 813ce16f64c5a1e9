//! Events for containerd, in the order in which things happened: one that does not come through is tried again, and
//! those behind it wait.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::MessageFull;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use tokio::sync::{mpsc, oneshot};
use ttrpc::context;

/// How many events wait at most; a guest makes none but of memory, which are limited.
const MOST_WAITING: usize = 4096;
/// How long containerd may take for one.
const LIMIT: Duration = Duration::from_secs(5);
/// The pause before one is tried again: it grows up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

enum Item {
    Event(Box<Envelope>),
    /// Everything before has come through, or never will.
    Flush(oneshot::Sender<()>),
}

/// The way to containerd.
#[derive(Clone)]
pub(crate) struct Events {
    namespace: String,
    queue: mpsc::Sender<Item>,
}

impl Events {
    /// Publishes to the socket at `address`, which containerd names in the environment.
    pub(crate) fn new(namespace: &str, address: String) -> Self {
        let (queue, items) = mpsc::channel(MOST_WAITING);
        tokio::spawn(forward(address, items));
        Self {
            namespace: namespace.to_owned(),
            queue,
        }
    }

    /// Something has happened.
    pub(crate) fn tell<E: MessageFull>(&self, topic: &str, event: &E) {
        let mut any = Any::new();
        any.type_url = E::descriptor().full_name().to_owned();
        any.value = event.write_to_bytes().unwrap_or_default();
        let mut envelope = Envelope::new();
        envelope.timestamp = Some(SystemTime::now().into()).into();
        envelope.namespace.clone_from(&self.namespace);
        topic.clone_into(&mut envelope.topic);
        envelope.event = Some(any).into();
        if self
            .queue
            .try_send(Item::Event(Box::new(envelope)))
            .is_err()
        {
            log::error!(
                "the event {topic} is lost: containerd has not taken {MOST_WAITING} before it"
            );
        }
    }

    /// Waits until containerd has everything, a bounded time.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(LIMIT, wait).await;
        }
    }
}

async fn forward(address: String, mut items: mpsc::Receiver<Item>) {
    let mut client = None;
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(envelope) => deliver(&address, &mut client, *envelope).await,
            Item::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Until it is taken.
async fn deliver(address: &str, client: &mut Option<EventsClient>, envelope: Envelope) {
    let mut request = ForwardRequest::new();
    request.envelope = Some(envelope).into();
    let mut pause = FIRST_PAUSE;
    loop {
        if client.is_none() {
            *client = Client::connect(&format!("unix://{address}"))
                .await
                .ok()
                .map(EventsClient::new);
        }
        if let Some(known) = client {
            let limit = context::with_timeout(LIMIT.as_nanos().try_into().unwrap_or(i64::MAX));
            match known.forward(limit, &request).await {
                Ok(_) => return,
                // It was understood and not wanted: it would not be a second time.
                Err(ttrpc::Error::RpcStatus(status))
                    if status.code() != ttrpc::Code::DEADLINE_EXCEEDED =>
                {
                    log::warn!("containerd refuses an event: {}", status.message());
                    return;
                }
                Err(_) => *client = None,
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
