//! A CRI client that blocks: each call runs to its end on a small runtime of its own.

use std::path::Path;

use cofferdam_integration::error::{Error, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{self, runtime_service_client::RuntimeServiceClient};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection to the runtime service.
pub(crate) struct Client {
    runtime: Runtime,
    service: RuntimeServiceClient<Channel>,
}

/// Why a call failed, as the harness's error.
fn failed(call: &str, why: impl std::fmt::Display) -> Error {
    Error::Timeout {
        what: format!("CRI {call}"),
        within: std::time::Duration::ZERO,
        detail: why.to_string(),
    }
}

/// Makes a method that performs one call.
macro_rules! calls {
    ($($name:ident: $request:ident -> $response:ident;)*) => {
        $(pub(crate) fn $name(&self, request: v1::$request) -> Result<v1::$response> {
            let mut service = self.service.clone();
            self.runtime
                .block_on(service.$name(request))
                .map(tonic::Response::into_inner)
                .map_err(|status| failed(stringify!($name), status))
        })*
    };
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("runtime", error))?;
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = runtime
            .block_on(Endpoint::from_static("http://[::]").connect_with_connector(connector))
            .map_err(|error| failed("connect", error))?;
        Ok(Self {
            runtime,
            service: RuntimeServiceClient::new(channel),
        })
    }

    calls! {
        run_pod_sandbox: RunPodSandboxRequest -> RunPodSandboxResponse;
        stop_pod_sandbox: StopPodSandboxRequest -> StopPodSandboxResponse;
        remove_pod_sandbox: RemovePodSandboxRequest -> RemovePodSandboxResponse;
        list_pod_sandbox: ListPodSandboxRequest -> ListPodSandboxResponse;
        pod_sandbox_status: PodSandboxStatusRequest -> PodSandboxStatusResponse;
        create_container: CreateContainerRequest -> CreateContainerResponse;
        start_container: StartContainerRequest -> StartContainerResponse;
        stop_container: StopContainerRequest -> StopContainerResponse;
        remove_container: RemoveContainerRequest -> RemoveContainerResponse;
        container_status: ContainerStatusRequest -> ContainerStatusResponse;
        container_stats: ContainerStatsRequest -> ContainerStatsResponse;
        exec_sync: ExecSyncRequest -> ExecSyncResponse;
        exec: ExecRequest -> ExecResponse;
        attach: AttachRequest -> AttachResponse;
        port_forward: PortForwardRequest -> PortForwardResponse;
    }
}
