//! The server itself: one port for HTTP and WebSocket, with limits.

use crate::{
    author::AuthorServer,
    backend::Backend,
    chain::ChainServer,
    head::{ChainHeadServer, Head},
    payment::PaymentServer,
    phala::PhalaServer,
    shared::Node,
    spec::SpecServer,
    state::StateServer,
    system::SystemServer,
};
use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    server::{BatchRequestConfig, PingConfig, RandomStringIdProvider, ServerConfig, ServerHandle},
};
use phala_primitives::{Code, Coded};
use serde_json::json;
use std::{io::ErrorKind, net::SocketAddr, sync::Arc};
use tower_http::cors::{Any, CorsLayer};

/// How much one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: u32,
    /// Subscriptions per connection.
    pub subscriptions: u32,
    /// Largest request, in bytes.
    pub request: u32,
    /// Largest answer, in bytes.
    pub response: u32,
    /// Most requests in one batch.
    pub batch: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 500, subscriptions: 128, request: 4 << 20, response: 16 << 20, batch: 100 }
    }
}

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and waits until they are gone.
    pub async fn stop(self) {
        // It fails only if the server has stopped already.
        let _ = self.handle.stop();
        self.handle.stopped().await;
    }
}

/// Starts the server on the runtime of the caller. Port 0 takes a free one.
///
/// Errors: `PortInUse` if the address is taken, `BadArgument` if it cannot be listened on.
pub async fn serve(address: SocketAddr, limits: Limits, backend: Arc<dyn Backend>) -> Result<Server, Coded> {
    let config = ServerConfig::builder()
        .max_connections(limits.connections)
        .max_subscriptions_per_connection(limits.subscriptions)
        .max_request_body_size(limits.request)
        .max_response_body_size(limits.response)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch))
        .enable_ws_ping(PingConfig::new())
        .set_tcp_no_delay(true)
        .set_id_provider(RandomStringIdProvider::new(16))
        .build();
    // Nothing here depends on who asks, so any page may ask.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    let server = jsonrpsee::server::Server::builder()
        .set_config(config)
        .set_http_middleware(tower::ServiceBuilder::new().layer(cors))
        .build(address)
        .await
        .map_err(|error| listen_error(address, &error))?;
    let address = server.local_addr().map_err(|error| listen_error(address, &error))?;
    let methods = methods(Node(backend)).map_err(|error| Coded::new(Code::Internal, error.to_string()))?;
    Ok(Server { address, handle: server.start(methods) })
}

fn listen_error(address: SocketAddr, error: &std::io::Error) -> Coded {
    let code = if error.kind() == ErrorKind::AddrInUse { Code::PortInUse } else { Code::BadArgument };
    Coded::new(code, format!("cannot listen on {address}: {error}"))
}

/// All methods, and `rpc_methods` that lists them.
pub(crate) fn methods(node: Node) -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(());
    module.merge(SystemServer::into_rpc(node.clone()))?;
    module.merge(ChainServer::into_rpc(node.clone()))?;
    module.merge(StateServer::into_rpc(node.clone()))?;
    module.merge(AuthorServer::into_rpc(node.clone()))?;
    module.merge(PaymentServer::into_rpc(node.clone()))?;
    module.merge(SpecServer::into_rpc(node.clone()))?;
    module.merge(ChainHeadServer::into_rpc(Head::new(node.clone())))?;
    module.merge(PhalaServer::into_rpc(node))?;
    let mut names: Vec<_> = module.method_names().chain(["rpc_methods"]).collect();
    names.sort_unstable();
    let list = json!({ "methods": names });
    module.register_method("rpc_methods", move |_, (), _| list.clone())?;
    Ok(module)
}
