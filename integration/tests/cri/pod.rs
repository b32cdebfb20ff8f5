//! A pod and its containers, as kubelet would make them.

use std::{collections::HashMap, fs, path::PathBuf};

use cofferdam_integration::{
    cases::Engine,
    containerd::Containerd,
    error::{At, Result},
};
use k8s_cri::v1;

use crate::client::Client;

/// A pod that is stopped and removed when dropped.
pub(crate) struct Pod<'a> {
    client: &'a Client,
    engine: &'a Containerd,
    pub(crate) id: String,
    config: v1::PodSandboxConfig,
    ids: Option<u32>,
}

/// What a container is to be.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a [&'a str],
    pub(crate) stdin: bool,
    pub(crate) user: Option<i64>,
    pub(crate) groups: &'a [i64],
    pub(crate) mounts: Vec<v1::Mount>,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            name: "worker",
            command: &["sleep", "1000"],
            stdin: false,
            user: None,
            groups: &[],
            mounts: Vec::new(),
        }
    }
}

impl<'a> Pod<'a> {
    /// Runs a sandbox with the handler `cofferdam`.
    pub(crate) fn run(
        client: &'a Client,
        engine: &'a Containerd,
        name: &str,
        annotations: &[(&str, &str)],
    ) -> Result<Self> {
        Self::run_with_ids(client, engine, name, annotations, None)
    }

    /// As [`Pod::run`]; with `hostUsers: false` kubelet says which ids the pod gets, from the one in `ids`.
    pub(crate) fn run_with_ids(
        client: &'a Client,
        engine: &'a Containerd,
        name: &str,
        annotations: &[(&str, &str)],
        ids: Option<u32>,
    ) -> Result<Self> {
        Self::run_with(client, engine, name, annotations, ids, HashMap::new())
    }

    /// As [`Pod::run_with_ids`], with parameters of the kernel.
    pub(crate) fn run_with(
        client: &'a Client,
        engine: &'a Containerd,
        name: &str,
        annotations: &[(&str, &str)],
        ids: Option<u32>,
        sysctls: HashMap<String, String>,
    ) -> Result<Self> {
        let logs = engine.scratch(&format!("logs-{name}"));
        fs::create_dir_all(&logs).at("make", &logs)?;
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{name}-uid"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: logs.display().to_string(),
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", engine.enclave().tag()),
                sysctls,
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: namespaces(ids),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: "cofferdam".to_owned(),
        };
        let id = client.run_pod_sandbox(request)?.pod_sandbox_id;
        Ok(Self {
            client,
            engine,
            id,
            config,
            ids,
        })
    }

    /// Creates and starts a container; its id.
    pub(crate) fn start(&self, wanted: &Wanted<'_>) -> Result<String> {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: wanted.name.to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: self.engine.image().to_owned(),
                ..Default::default()
            }),
            command: wanted.command.iter().map(|&word| word.to_owned()).collect(),
            annotations: HashMap::new(),
            mounts: wanted.mounts.clone(),
            log_path: format!("{}.log", wanted.name),
            stdin: wanted.stdin,
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: namespaces(self.ids),
                    run_as_user: wanted.user.map(|value| v1::Int64Value { value }),
                    supplemental_groups: wanted.groups.to_vec(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let id = self.client.create_container(request)?.container_id;
        let request = v1::StartContainerRequest {
            container_id: id.clone(),
        };
        self.client.start_container(request)?;
        Ok(id)
    }

    /// The file a container's output is logged to.
    pub(crate) fn log(&self, container: &str) -> PathBuf {
        PathBuf::from(&self.config.log_directory).join(format!("{container}.log"))
    }
}

/// What kubelet asks for by default: processes of a container's own, the rest shared by the pod.
fn namespaces(ids: Option<u32>) -> Option<v1::NamespaceOption> {
    let own = |first| {
        let ids = vec![v1::IdMapping {
            host_id: first,
            container_id: 0,
            length: 65536,
        }];
        v1::UserNamespace {
            mode: v1::NamespaceMode::Pod as i32,
            uids: ids.clone(),
            gids: ids,
        }
    };
    Some(v1::NamespaceOption {
        pid: v1::NamespaceMode::Container as i32,
        userns_options: ids.map(own),
        ..Default::default()
    })
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let pod_sandbox_id = self.id.clone();
        let _ = self
            .client
            .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id });
        let pod_sandbox_id = self.id.clone();
        let _ = self
            .client
            .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id });
    }
}
